//! The document names the tests that exist, and every case of the suite.

use std::fs;
use std::path::Path;

#[test]
fn the_document_accounts_for_all_88_cases() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(here.join("../../docs/supervision.md")).unwrap();
    let sources: String = fs::read_dir(here.join("tests/supervision"))
        .unwrap()
        .chain(fs::read_dir(here).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let rows: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
        .collect();
    let mut cases = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        match cells[1].split_once('–') {
            Some((first, last)) => cases.extend(first.parse::<u32>().unwrap()..=last.parse().unwrap()),
            None => cases.push(cells[1].parse::<u32>().unwrap()),
        }
        if cells[3].starts_with("no:") {
            continue;
        }
        for name in cells[3].split('`').skip(1).step_by(2) {
            assert!(
                sources.contains(&format!("fn {name}(")),
                "docs/supervision.md names a test that is not there: {name}"
            );
        }
        assert!(cells[3].contains('`'), "case {} has neither a test nor a reason", cells[1]);
    }
    assert_eq!(cases, (1..=88).collect::<Vec<_>>());
}
