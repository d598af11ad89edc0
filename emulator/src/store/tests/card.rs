// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a card acknowledged is there when its power goes at any operation on the disk, whatever of
//! what was not synced has reached it: configuration items that are set and taken back, a firmware
//! update that is activated, a flash that is written.

use std::{cell::RefCell, rc::Rc};

use fw_model::{
    Card, CardOptions, Effect, Effects, EventPath, FunctionId, Input, NoMemory, Profile, Time,
    firmware::{flash::spec, fs4},
    gateway::{Place, space},
};

use super::{
    super::Journal,
    power::{Dice, Platter, Unreliable},
};

const MNVDA: u32 = 0x9024;
const MNVDI: u32 = 0x9025;
const MNVIA: u32 = 0x9033;
const MFBA: u32 = 0x9011;
const MFBE: u32 = 0x9012;
const MCC: u32 = 0x9062;
const MCDA: u32 = 0x9063;
const MCQS: u32 = 0x9060;
const MCQI: u32 = 0x9061;
/// Instructions of MCC.
const LOCK: u32 = 1;
const RELEASE: u32 = 2;
const UPDATE: u32 = 3;
const VERIFY: u32 = 4;
const ACTIVATE: u32 = 6;
/// `MCQS.component_status`.
const PRESENT: u32 = 1;
/// `nv_memic_conf` and `nv_roce_1_5_conf`, a card's items of 4 bytes.
const ITEM: u32 = 6;
const OTHER: u32 = 0x10;
/// Index of the congestion control's component, and bytes that begin as mstflint sends them.
const CONGESTION: u32 = 1;
const ALGORITHM: &[u8; 128] = &[0xff; 128];
/// Ends of one power cut: which of the writes on their way happened, and in which order.
const ENDS: u64 = 4;
/// A sector of the flash behind the images.
const SECTOR: u32 = 0x1f0_0000;
const CONTROL: u32 = 0;
const MAILBOX: u32 = 0x10_0000;
const GET: u32 = 1;
const SET: u32 = 2;

/// A card on the journal, used through the gateway.
struct Machine {
    card: Card,
    journal: Journal<Unreliable>,
    fx: Effects,
    now: Time,
}

/// The power went before the answer.
#[derive(Debug, PartialEq)]
struct Off;

/// What the tests look at: the items' next-boot values, the version that is to be started, whether
/// there is a component besides it, two dwords of the flash.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    items: [u32; 2],
    pending: u32,
    algorithm: bool,
    flash: [u32; 2],
}

impl Machine {
    fn on(disk: &Unreliable) -> Self {
        let (journal, damage) = Journal::open(disk.clone(), false).unwrap();
        assert_eq!(damage, None);
        let profile = Profile::builtin("connectx7").unwrap();
        let mut card = Card::new(profile, CardOptions::default(), &journal.content);
        card.add_function(EventPath::EventQueues).unwrap();
        Self {
            card,
            journal,
            fx: Effects::default(),
            now: Time::ZERO,
        }
    }

    fn write(&mut self, address: u32, value: u32) -> Result<(), Off> {
        let at = Place {
            space: space::ICMD,
            address,
        };
        let input = Input::Gateway {
            function: FunctionId(0),
            at,
            value,
        };
        self.now.0 += 1000;
        self.fx.clear();
        self.card.submit(input, self.now, &NoMemory, &mut self.fx);
        let commits = self.fx.iter().filter_map(|e| match e {
            Effect::Commit { token, batch } => Some((*token, batch.puts.clone())),
            _ => None,
        });
        for (token, changes) in commits.collect::<Vec<_>>() {
            self.journal.commit(changes).map_err(|_| Off)?;
            let stored = true;
            let input = Input::Committed { token, stored };
            self.card.submit(input, self.now, &NoMemory, &mut self.fx);
        }
        Ok(())
    }

    fn read(&self, address: u32) -> u32 {
        let at = Place {
            space: space::ICMD,
            address,
        };
        self.card
            .read_space(FunctionId(0), at, self.now)
            .unwrap()
            .value
    }

    /// A register access: an operation TLV, a register TLV, the register.
    fn access(&mut self, id: u32, method: u32, words: &[u32]) -> Result<Vec<u32>, Off> {
        let len = words.len() as u32;
        let heads = [
            1 << 27 | 4 << 16,
            id << 16 | method << 8 | 1,
            0,
            0,
            3 << 27 | (len + 1) << 16,
        ];
        for (i, word) in (0..).zip(heads.iter().chain(words)) {
            self.write(MAILBOX + 4 * i, *word)?;
        }
        self.write(CONTROL, 0x9001 << 16 | 1)?;
        assert_eq!(self.read(CONTROL), 0x9001 << 16, "executed");
        assert_eq!(
            self.read(MAILBOX) >> 8 & 0x7f,
            0,
            "register {id:#x}: status"
        );
        Ok((0..len).map(|i| self.read(MAILBOX + 20 + 4 * i)).collect())
    }

    fn seen(&mut self) -> Seen {
        let items = [ITEM, OTHER].map(|i| self.access(MNVDA, GET, &[4, i, 0, 0]).unwrap()[3]);
        // MCQS: component_status of the second component.
        let algorithm = self.access(MCQS, GET, &[CONGESTION, 0, 0, 0]).unwrap()[2];
        // MCQI of the boot image: the pending one, its version.
        let mut ask = [0; 37];
        (ask[0], ask[2], ask[5]) = (1 << 31, 1, 124);
        let pending = self.access(MCQI, GET, &ask).unwrap()[7];
        let flash = self.access(MFBA, GET, &[0, 8, SECTOR, 0, 0]).unwrap();
        Seen {
            items,
            pending,
            algorithm: algorithm >> 4 & 0x1f == PRESENT,
            flash: [flash[3], flash[4]],
        }
    }
}

type Step = fn(&mut Machine, &[u8]) -> Result<(), Off>;

fn set(m: &mut Machine, _: &[u8]) -> Result<(), Off> {
    m.access(MNVDA, SET, &[4, ITEM, 0, 0x0001_4110]).map(drop)
}

fn set_other(m: &mut Machine, _: &[u8]) -> Result<(), Off> {
    m.access(MNVDA, SET, &[4, OTHER, 0, 0x8000_0000]).map(drop)
}

fn invalidate(m: &mut Machine, _: &[u8]) -> Result<(), Off> {
    m.access(MNVDI, SET, &[4, ITEM, 0]).map(drop)
}

fn invalidate_all(m: &mut Machine, _: &[u8]) -> Result<(), Off> {
    m.access(MNVIA, SET, &[0, 0]).map(drop)
}

fn burn(m: &mut Machine, image: &[u8]) -> Result<(), Off> {
    update(m, 0, image)
}

fn update_algorithm(m: &mut Machine, _: &[u8]) -> Result<(), Off> {
    update(m, CONGESTION, ALGORITHM)
}

/// A component is downloaded, verified and activated; then the handle is given back.
fn update(m: &mut Machine, index: u32, bytes: &[u8]) -> Result<(), Off> {
    let handle = m.access(MCC, GET, &[0; 8])?[2] & 0xff_ffff;
    let mcc = |m: &mut Machine, what: u32| {
        let size = bytes.len() as u32;
        m.access(MCC, SET, &[what, index, handle, 0, size, 0, 0, 0])
    };
    mcc(m, LOCK)?;
    mcc(m, UPDATE)?;
    for (i, piece) in (0..).zip(bytes.chunks(128)) {
        let mut words = vec![handle, 128 * i, piece.len() as u32, 0];
        // Their last byte first.
        words.extend(
            piece
                .chunks(4)
                .map(|c| u32::from_le_bytes(c.try_into().unwrap())),
        );
        m.access(MCDA, SET, &words)?;
    }
    mcc(m, VERIFY)?;
    mcc(m, ACTIVATE)?;
    mcc(m, RELEASE).map(drop)
}

fn program(m: &mut Machine, _: &[u8]) -> Result<(), Off> {
    m.access(MFBA, SET, &[0, 8, SECTOR, 0x1111_1111, 0x2222_2222])
        .map(drop)
}

fn erase(m: &mut Machine, _: &[u8]) -> Result<(), Off> {
    m.access(MFBE, SET, &[0, 0, SECTOR]).map(drop)
}

const STEPS: &[Step] = &[
    set,
    set_other,
    burn,
    invalidate,
    update_algorithm,
    program,
    set,
    erase,
    invalidate_all,
];

/// The power goes at operation `fuse`, counted from the first step on, with each of [`ENDS`] ends.
/// False if it did not go.
fn run(fuse: u64, image: &[u8], states: &[Seen]) -> bool {
    let disk = Unreliable(Rc::new(RefCell::new(Platter::default())));
    let mut m = Machine::on(&disk);
    disk.0.borrow_mut().fuse = Some(fuse);
    let done = STEPS
        .iter()
        .take_while(|step| step(&mut m, image).is_ok())
        .count();
    for end in 0..ENDS {
        let mut dice = Dice((fuse * ENDS + end) * 2 + 1);
        let mut platter = disk.0.borrow().clone();
        platter.power_cycle(&mut dice);
        let found = Machine::on(&Unreliable(Rc::new(RefCell::new(platter)))).seen();
        assert!(
            found == states[done] || states.get(done + 1) == Some(&found),
            "fuse {fuse}, end {end}, {done} steps acknowledged: {found:x?}"
        );
    }
    done < STEPS.len()
}

#[test]
fn what_a_card_acknowledged_is_there_whenever_the_power_goes() {
    let profile = Profile::builtin("connectx7").unwrap();
    let image = fs4::build(&spec(&profile, [28, 44, 1000]));
    let mut m = Machine::on(&Unreliable(Rc::default()));
    let mut states = vec![m.seen()];
    for step in STEPS {
        step(&mut m, &image).unwrap();
        states.push(m.seen());
    }
    // 28.43.1014 and 28.44.1000, as MCQI packs them.
    const OLD: u32 = 0x1c2b_03f6;
    const NEW: u32 = 0x1c2c_03e8;
    const UNSET: u32 = u32::MAX;
    const VALUE: u32 = 0x0001_4110;
    const ENABLED: u32 = 0x8000_0000;
    let seen = |items, pending, algorithm, second| (items, pending, algorithm, second);
    let expected = [
        seen([0, 0], OLD, false, UNSET),
        seen([VALUE, 0], OLD, false, UNSET),
        seen([VALUE, ENABLED], OLD, false, UNSET),
        seen([VALUE, ENABLED], NEW, false, UNSET),
        seen([0, ENABLED], NEW, false, UNSET),
        seen([0, ENABLED], NEW, true, UNSET),
        seen([0, ENABLED], NEW, true, 0x2222_2222),
        seen([VALUE, ENABLED], NEW, true, 0x2222_2222),
        seen([VALUE, ENABLED], NEW, true, UNSET),
        seen([0, 0], NEW, true, UNSET),
    ];
    let found = states
        .iter()
        .map(|s| seen(s.items, s.pending, s.algorithm, s.flash[1]));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    let points = (0..).take_while(|fuse| run(*fuse, &image, &states)).count();
    println!("the power went at {points} operations, {ENDS} ends each");
    assert!(
        points > 150,
        "an image alone has 162 sectors, some of them empty: {points}"
    );
}
