// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Nothing acknowledged is lost and nothing half-written is read: on a disk that forgets, tears and
//! reorders whatever was not synced, whenever it stops.

mod card;
mod power;

use std::rc::Rc;

use super::*;
use fw_model::store;
use power::{Dice, Unreliable};

fn some_changes(dice: &mut Dice) -> Changes {
    let one = |dice: &mut Dice| {
        let key = format!("nv/{}", dice.roll(6));
        let value = vec![dice.roll(256) as u8; dice.roll(1500) as usize];
        (key, (dice.roll(4) > 0).then_some(value))
    };
    (0..=dice.roll(3)).map(|_| one(dice)).collect()
}

/// Commits until the power goes at operation `fuse`; what is found then is what was acknowledged,
/// or that and the commit that was under way. Returns how many commits were acknowledged.
fn run(fuse: u64, seed: u64) -> u64 {
    let mut dice = Dice(seed * 2 + 1);
    let disk = Unreliable(Rc::default());
    let (mut expected, mut acknowledged) = (BTreeMap::new(), 0);
    for round in 0..3 {
        let (mut j, damage) = Journal::open(disk.clone(), false).unwrap();
        assert_eq!(damage, None);
        assert_eq!(
            j.content, expected,
            "fuse {fuse}, seed {seed}, round {round}"
        );
        disk.0.borrow_mut().fuse = Some(fuse);
        let under_way = loop {
            let changes = some_changes(&mut dice);
            if j.commit(changes.clone()).is_err() {
                break changes;
            }
            apply(&mut expected, changes);
            acknowledged += 1;
        };
        disk.0.borrow_mut().power_cycle(&mut dice);
        let (j, damage) = Journal::open(disk.clone(), false).unwrap();
        assert_eq!(damage, None, "fuse {fuse}, seed {seed}, round {round}");
        let mut with = expected.clone();
        apply(&mut with, under_way);
        assert!(
            j.content == expected || j.content == with,
            "fuse {fuse}, seed {seed}, round {round}: {:?}",
            j.content.keys()
        );
        expected = j.content;
    }
    acknowledged
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_old_or_the_new_content() {
    let mut acknowledged = 0;
    for fuse in 0..60 {
        for seed in 0..40 {
            acknowledged += run(fuse, seed);
        }
    }
    assert!(acknowledged > 12_000, "{acknowledged} commits");
}

#[test]
fn a_journal_is_written_anew_when_it_is_mostly_dead() {
    let disk = Unreliable(Rc::default());
    let (mut j, _) = Journal::open(disk.clone(), false).unwrap();
    let mut longest = 0;
    for i in 0..5000u32 {
        let value = Some(i.to_le_bytes().to_vec());
        j.commit([("nv/a".to_owned(), value)].into()).unwrap();
        longest = longest.max(j.end);
    }
    assert!(longest <= MIN_WASTE + 512 + WASTE * 8, "{longest}");
    let (again, _) = Journal::open(disk, false).unwrap();
    assert_eq!(again.content["nv/a"], 4999u32.to_le_bytes());
}

#[test]
fn a_write_that_fails_changes_nothing_and_later_ones_go_on() {
    let disk = Unreliable(Rc::default());
    let (mut j, _) = Journal::open(disk.clone(), false).unwrap();
    let set = |v: u8| -> Changes { [("a".to_owned(), Some(vec![v; 600]))].into() };
    j.commit(set(1)).unwrap();
    // The second sector cannot be written; nor can the first one be cut off: nothing is taken then.
    disk.0.borrow_mut().fuse = Some(1);
    assert!(j.commit(set(2)).is_err());
    disk.0.borrow_mut().fuse = None;
    assert!(j.commit(set(3)).is_err(), "until it is opened again");
    let (mut j, _) = Journal::open(disk.clone(), false).unwrap();
    assert_eq!(j.content["a"], [1; 600]);
    j.commit(set(4)).unwrap();
    let (j, _) = Journal::open(disk, false).unwrap();
    assert_eq!(j.content["a"], [4; 600]);
}

#[test]
fn a_first_write_that_fails_leaves_nothing_and_a_new_name_that_nobody_heard_of_stops_all() {
    let disk = Unreliable(Rc::default());
    let (mut j, _) = Journal::open(disk.clone(), false).unwrap();
    let set = |v: u8| -> Changes { [("a".to_owned(), Some(vec![v]))].into() };
    disk.0.borrow_mut().fuse = Some(1);
    assert!(j.commit(set(1)).is_err());
    assert!(j.content.is_empty());
    // Cut, write, sync, and the new name is there when the power goes.
    disk.0.borrow_mut().fuse = Some(4);
    assert!(j.commit(set(2)).is_err());
    disk.0.borrow_mut().fuse = None;
    assert!(j.commit(set(3)).is_err(), "which file has the name?");
    let (j, _) = Journal::open(disk, false).unwrap();
    assert_eq!(j.content["a"], [2]);
}

fn batch(key: &str, value: Option<&[u8]>) -> Batch {
    Batch {
        puts: [(key.to_owned(), value.map(<[u8]>::to_vec))].into(),
    }
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = vmm_sys_util::tempdir::TempDir::new().unwrap();
    let mut s = FileStore::open(dir.as_path(), false).unwrap();
    let mut expected = BTreeMap::new();
    for b in [
        batch("nv/a", Some(&[0, 0xff])),
        batch("nv/b", Some(&[])),
        batch("nv/c", Some(&[1])),
        batch("nv/c", None),
    ] {
        s.commit(&b).unwrap();
        store::apply(&mut expected, &b);
    }
    let e = FileStore::open(dir.as_path(), false)
        .unwrap_err()
        .to_string();
    assert!(e.contains("another process uses it"), "{e}");
    drop(s);
    let mut s = FileStore::open(dir.as_path(), false).unwrap();
    assert_eq!(s.load().unwrap(), expected);
}

#[test]
fn damage_is_refused_by_its_place_and_recovered_when_told() {
    let dir = vmm_sys_util::tempdir::TempDir::new().unwrap();
    let path = dir.as_path().join(CARD);
    let mut s = FileStore::open(dir.as_path(), false).unwrap();
    s.commit(&batch("nv/a", Some(&[1]))).unwrap();
    s.commit(&batch("nv/b", Some(&[2]))).unwrap();
    drop(s);
    let mut bytes = fs::read(&path).unwrap();
    bytes[600] ^= 4;
    fs::write(&path, &bytes).unwrap();
    let e = FileStore::open(dir.as_path(), false)
        .unwrap_err()
        .to_string();
    assert!(
        e.contains("file card is damaged: at byte 512: a checksum"),
        "{e}"
    );
    let mut s = FileStore::open(dir.as_path(), true).unwrap();
    assert_eq!(s.load().unwrap(), [("nv/a".to_owned(), vec![1])].into());
    assert_eq!(fs::read(dir.as_path().join(DAMAGED)).unwrap(), bytes);
    s.commit(&batch("nv/c", Some(&[3]))).unwrap();
    drop(s);
    let mut s = FileStore::open(dir.as_path(), false).unwrap();
    assert_eq!(s.load().unwrap().len(), 2);
}
