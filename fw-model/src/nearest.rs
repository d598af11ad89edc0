// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What somebody may have meant who wrote a name that there is not.

/// Names that are told at most.
const MOST: usize = 3;
/// How alike two names must be, from 0 to 1.
const ALIKE: f64 = 0.85;

/// `"; did you mean A or B?"`, of the names that are most like `word`; nothing if none is. Upper and
/// lower case are the same.
#[must_use]
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let word = word.to_ascii_lowercase();
    let alike = |n: &'a str| (strsim::jaro_winkler(&word, &n.to_ascii_lowercase()), n);
    let mut all: Vec<_> = names.into_iter().map(alike).collect();
    all.retain(|(how, _)| *how >= ALIKE);
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    all.dedup();
    let names: Vec<_> = all.iter().take(MOST).map(|(_, n)| *n).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!("; did you mean {}?", names.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_alike_are_told_first() {
        let names = [
            "QUERY_HCA_CAP",
            "QUERY_HCA_VPORT_CONTEXT",
            "NOP",
            "INIT_HCA",
        ];
        let told = nearest("query_hca_cpa", names);
        assert!(told.starts_with("; did you mean QUERY_HCA_CAP"), "{told}");
        assert_eq!(nearest("zzzzzz", names), "");
        assert_eq!(nearest("", names), "");
        assert_eq!(nearest("nop", ["NOP", "NOP"]), "; did you mean NOP?");
    }
}
