//! Every variable of the environment that the library reads is in `docs/environment.md`.

use std::collections::BTreeSet;
use std::path::Path;

/// The texts in quotes that are such a name, but for those of error codes.
fn names_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            names_in(&path, names);
            continue;
        }
        if !path.extension().is_some_and(|extension| extension == "rs" || extension == "c") {
            continue;
        }
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        names.extend(
            text.split('"')
                .filter(|word| {
                    word.starts_with("TINE_") && !word.starts_with("TINE_E") || *word == "TINE_ENGINE"
                })
                .filter(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
                .map(str::to_owned),
        );
    }
}

#[test]
fn the_page_has_every_variable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page =
        std::fs::read_to_string(root.join("docs/environment.md")).expect("docs/environment.md is there");
    let mut names = BTreeSet::new();
    names_in(&root.join("src"), &mut names);
    names_in(&root.join("mpi"), &mut names);
    assert!(names.contains("TINE_CHECK") && names.contains("TINE_MPI_LIBRARY"), "{names:?}");
    let missing: Vec<&String> = names.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/environment.md does not have {missing:?}");
}

/// What a pool says of a value that is none names those that are: each has a row of the page.
#[test]
fn the_page_has_every_engine() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("the file is there");
    let (source, page) = (read("src/pool/options.rs"), read("docs/environment.md"));
    let (_, said) = source.split_once("{other}\\\"; it can be ").expect("the text of the refusal");
    let (engines, _) = said.split_once('"').expect("the text's end");
    let engines: Vec<&str> = engines.split(", ").flat_map(|part| part.split(" or ")).collect();
    assert!(engines.len() >= 3, "{engines:?}");
    let has_row = |engine: &str| {
        let rows = [format!("| `TINE_ENGINE` | `{engine}` |"), format!("| | `{engine}` |")];
        rows.iter().any(|row| page.contains(row.as_str()))
    };
    let missing: Vec<&&str> = engines.iter().filter(|engine| !has_row(engine)).collect();
    assert!(missing.is_empty(), "docs/environment.md has no row for TINE_ENGINE={missing:?}");
}
