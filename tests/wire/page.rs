//! Reading the page of the wire (`src/protocol/wire.md`): its examples and its tables.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol/wire.md")).unwrap()
}

/// The bytes of the page's examples: blocks that begin with `example NAME`, hex digits before a bar, words after it, and
/// `{NAME}` for an earlier example.
pub fn examples() -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for block in page().split("```text\nexample ").skip(1) {
        let mut lines = block.split("\n```").next().unwrap().lines();
        let name = lines.next().unwrap().trim().to_owned();
        let mut digits = String::new();
        for line in lines {
            let (bytes, _) = line.split_once('|').unwrap_or_else(|| panic!("{name}: no bar in {line:?}"));
            match bytes.trim().strip_prefix('{').and_then(|other| other.strip_suffix('}')) {
                Some(other) => digits.push_str(&found[other]),
                None => digits.extend(bytes.chars().filter(|c| !c.is_whitespace())),
            }
        }
        assert!(found.insert(name.clone(), digits).is_none(), "{name} is there twice");
    }
    found
}

/// The rows of the table below that heading.
pub fn table(heading: &str) -> Vec<Vec<String>> {
    let page = page();
    let (_, section) = page.split_once(&format!("# {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().replace('`', "")).collect());
    // The heading and the line below it.
    cells.skip(2).collect()
}
