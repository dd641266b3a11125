//! The book's pages: one for each part of the header.

use crate::{Entry, PARTS};
use std::fmt::Write as _;

pub fn pages(conventions: &[(String, String)], entries: &[Entry]) -> Vec<(String, String)> {
    let mut first = String::from("# Reference\n\nThese conventions hold for every call.\n\n");
    for (name, text) in conventions {
        writeln!(first, "**{name}**: {}\n", escaped(text)).unwrap();
    }
    let mut out = Vec::new();
    let mut summary = String::from("- [Reference](reference/index.md)\n");
    let mut subjects: Vec<&str> = entries.iter().map(|entry| entry.subject.as_str()).collect();
    subjects.dedup();
    for subject in subjects {
        let file =
            subject.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "-").trim_matches('-').to_owned()
                + ".md";
        writeln!(summary, "  - [{subject}](reference/{file})").unwrap();
        let mut page = format!("# {subject}\n");
        for entry in entries.iter().filter(|entry| entry.subject == subject) {
            page.push_str(&section(entry));
        }
        out.push((file, page));
    }
    out.push(("index.md".to_owned(), first));
    out.push(("SUMMARY".to_owned(), summary));
    out
}

fn section(entry: &Entry) -> String {
    let mut out = format!("\n## {}\n\n```c\n{}\n```\n\n", entry.name, entry.declaration);
    let (description, parts) = entry.parts();
    paragraphs(&mut out, "", &description);
    for (part, text) in parts {
        writeln!(out, "**{}**: {}\n", PARTS[part], escaped(&text)).unwrap();
    }
    for (field, text) in &entry.fields {
        writeln!(out, "- `{field}`\n").unwrap();
        paragraphs(&mut out, "  ", text);
    }
    out
}

fn paragraphs(out: &mut String, indent: &str, all: &[String]) {
    for paragraph in all {
        match paragraph.starts_with("    ") {
            true => writeln!(out, "{indent}```c\n{paragraph}\n{indent}```\n").unwrap(),
            false => writeln!(out, "{indent}{}\n", escaped(paragraph)).unwrap(),
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('<', "&lt;").replace('*', "\\*").replace('_', "\\_")
}
