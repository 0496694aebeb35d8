//! The index: which cases there are, and why some have no test here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Cases that this folder answers for. The others (admission control at the system's edge, HTTP, the network's own
/// faults) belong to other parts of the node, and get their place here when those are there.
const CASES: &[std::ops::RangeInclusive<u32>] = &[
    1..=31,
    // Records, exhaustion, time, and what is local.
    32..=40,
    44..=45,
    // The state on disk and the log.
    46..=64,
    66..=67,
];

/// Cases without a test of their own, and why.
const WITHOUT: &[(u32, &str)] = &[
    (
        15,
        "nothing on the wire is compressed, so no payload can be unpacked to more than its bytes; a frame's are bounded (13), \
     and so is what it becomes in memory (9)",
    ),
    (64, "there is no page of metrics in this build; it comes with the page for browsers"),
];

fn tested() -> BTreeSet<u32> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for name in text.lines().filter_map(|line| line.trim().strip_prefix("fn case_")) {
            let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
            numbers.insert(digits.parse().unwrap_or_else(|_| panic!("fn case_{name}: no number")));
        }
    }
    numbers
}

#[test]
fn each_case_has_a_test_or_a_reason() {
    let tested = tested();
    for case in CASES.iter().cloned().flatten() {
        let reason = WITHOUT.iter().find(|(number, _)| *number == case);
        assert!(
            tested.contains(&case) != reason.is_some(),
            "case {case}: either a test `case_{case:02}_…` in this folder or a line in WITHOUT, and not both"
        );
    }
}
