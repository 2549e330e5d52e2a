//! The documents say what the code is.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents() -> Vec<PathBuf> {
    let mut all = vec![root().join("README.md")];
    for dir in ["docs", "docs/decisions"] {
        all.extend(fs::read_dir(root().join(dir)).unwrap().map(|entry| entry.unwrap().path()));
    }
    all.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    assert!(all.len() > 10);
    all
}

#[test]
fn every_path_that_a_document_names_is_there() {
    let rooms = ["src/", "actors/", "config/", "tests/", "benches/", "docs/", ".ci/"];
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let quoted = text.split('`').skip(1).step_by(2);
        let linked = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .filter(|link| !link.contains("://"));
        for path in quoted.filter(|path| {
            rooms.iter().any(|room| path.starts_with(room)) && !path.contains([' ', '…', '*', '('])
        }) {
            assert!(root().join(path).exists(), "{} names {path}, which is not there", document.display());
        }
        for link in linked {
            assert!(document.parent().unwrap().join(link).exists(), "{} links to {link}", document.display());
        }
    }
}

#[test]
fn every_message_of_the_table_exists_where_it_says() {
    let table = read("docs/messages.md");
    let mut count = 0;
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let file = read(cells[cells.len() - 2].trim_matches('`'));
        for message in cells[1].split('`').skip(1).step_by(2) {
            assert!(
                file.contains(&format!("struct {message}")),
                "{message} is not in {}",
                cells[cells.len() - 2]
            );
            count += 1;
        }
    }
    assert!(count > 20, "only {count} messages");
}

#[test]
fn the_tree_of_the_document_is_the_one_that_is_built() {
    let (document, source) = (read("docs/supervision.md"), read("src/drone.rs"));
    for child in [
        "root",
        "console",
        "offload",
        "ledger",
        "janitor",
        "lanes",
        "pruner",
        "verifier",
        "uploaders",
        "planner",
        "completion",
        "scanner",
    ] {
        assert!(document.contains(child), "docs/supervision.md does not show {child}");
        assert!(source.contains(&format!("\"{child}\"")), "src/drone.rs does not build {child}");
    }
}

#[test]
fn every_seeded_bug_is_hunted() {
    let (mut seeded, script) = (std::collections::BTreeSet::new(), read("tests/teeth"));
    let mut waiting = vec![root().join("actors"), root().join("src")];
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                waiting.push(entry);
            } else if entry.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&entry).unwrap();
                seeded.extend(
                    text.split("seeded_bug = \"")
                        .skip(1)
                        .map(|rest| rest.split('"').next().unwrap().to_owned()),
                );
            }
        }
    }
    assert!(seeded.len() >= 10, "{seeded:?}");
    for bug in seeded {
        assert!(
            script.lines().any(|line| line.starts_with(&format!("{bug} "))),
            "tests/teeth does not hunt {bug}"
        );
    }
}

#[test]
fn every_document_is_in_the_book() {
    let summary = read("docs/SUMMARY.md");
    for document in documents() {
        let name = document.strip_prefix(root().join("docs")).map(|path| path.display().to_string());
        let Ok(name) = name else { continue };
        assert!(
            name == "SUMMARY.md" || summary.contains(&format!("]({name})")),
            "docs/SUMMARY.md lacks {name}"
        );
    }
}
