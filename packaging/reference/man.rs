//! Manual pages, in mdoc.

use crate::{Entry, PARTS, sentences};
use std::fmt::Write as _;

/// Those of PARTS.
const HEADINGS: [&str; PARTS.len()] = ["PARAMETERS", "RETURN VALUES", "OWNERSHIP", "THREADS", "FORK"];

pub fn pages(conventions: &[(String, String)], entries: &[Entry], date: &str) -> Vec<(String, String)> {
    let head = |name: &str, section: u8| format!(".Dd {date}\n.Dt {} {section}\n.Os\n", name.to_uppercase());
    let mut out = vec![("tine.7".to_owned(), overview(conventions, entries, &head("tine", 7)))];
    for entry in entries.iter().filter(|entry| !entry.is_constant()) {
        let page = head(&entry.name, 3) + &page(entry, entries);
        out.push((format!("{}.3", entry.name), page));
    }
    out
}

fn page(entry: &Entry, entries: &[Entry]) -> String {
    let mut out = String::new();
    writeln!(out, ".Sh NAME\n.Nm {}\n.Nd {}", entry.name, text(&lower(&entry.summary()))).unwrap();
    out.push_str(".Sh LIBRARY\ntine (libtine, \\-ltine)\n.Sh SYNOPSIS\n.In tine.h\n");
    if entry.is_call() {
        out.push_str(&prototype(&entry.declaration));
    } else {
        out.push_str(&code(&entry.declaration));
    }
    let (description, parts) = entry.parts();
    out.push_str(".Sh DESCRIPTION\n");
    out.push_str(&paragraphs(&description));
    if !entry.fields.is_empty() {
        out.push_str(".Bl -tag -width Ds\n");
        for (field, meaning) in &entry.fields {
            writeln!(out, ".It \"{}\"\n{}", text(field), paragraphs(meaning).trim_end()).unwrap();
        }
        out.push_str(".El\n");
    }
    for (part, paragraph) in &parts {
        write!(
            out,
            ".Sh {}\n{}",
            HEADINGS[*part],
            prose(&if *part == 0 { paragraph.clone() } else { upper(paragraph) })
        )
        .unwrap();
    }
    out.push_str(".Sh SEE ALSO\n");
    for name in entry.mentions(entries) {
        writeln!(out, ".Xr {name} 3 ,").unwrap();
    }
    out.push_str(".Xr tine 7\n");
    out
}

/// What holds for every call, all calls, and all constants.
fn overview(conventions: &[(String, String)], entries: &[Entry], head: &str) -> String {
    let mut out = format!(
        "{head}.Sh NAME\n.Nm tine\n.Nd process pools, shared memory, queues and locks\n.Sh DESCRIPTION\n"
    );
    out.push_str("These conventions hold for every call:\n.Bl -tag -width Ds\n");
    for (name, convention) in conventions {
        write!(out, ".It {name}\n{}", prose(convention)).unwrap();
    }
    out.push_str(".El\n");
    let mut subjects: Vec<&str> = entries.iter().map(|entry| entry.subject.as_str()).collect();
    subjects.dedup();
    for subject in subjects {
        let of_it: Vec<&Entry> = entries.iter().filter(|entry| entry.subject == subject).collect();
        writeln!(out, ".Ss {}\n.Bl -tag -width Ds", text(subject)).unwrap();
        for entry in of_it {
            if entry.is_constant() {
                write!(out, ".It Dv {}\n{}", entry.name, paragraphs(&entry.text)).unwrap();
            } else {
                writeln!(out, ".It Xr {} 3\n{}", entry.name, prose(&entry.summary()).trim_end()).unwrap();
            }
        }
        out.push_str(".El\n");
    }
    out
}

fn prototype(declaration: &str) -> String {
    let flat = declaration.split_whitespace().collect::<Vec<_>>().join(" ");
    let (before, after) = flat.split_once('(').expect("a function has parameters");
    let at = before.rfind([' ', '*']).expect("a function has a type") + 1;
    let mut out = format!(".Ft {}\n.Fo {}\n", quoted(before[..at].trim()), &before[at..]);
    for parameter in after.trim_end_matches(';').trim_end_matches(')').split(", ") {
        writeln!(out, ".Fa {}", quoted(parameter)).unwrap();
    }
    out + ".Fc\n"
}

fn quoted(text: &str) -> String {
    if text.contains(' ') { format!("\"{text}\"") } else { text.to_owned() }
}

fn paragraphs(all: &[String]) -> String {
    let mut out = String::new();
    let mut before_is_text = false;
    for paragraph in all {
        if paragraph.starts_with("    ") {
            out.push_str(&code(paragraph));
            before_is_text = false;
        } else {
            if before_is_text {
                out.push_str(".Pp\n");
            }
            out.push_str(&prose(paragraph));
            before_is_text = true;
        }
    }
    out
}

fn code(lines: &str) -> String {
    let mut out = String::from(".Bd -literal -offset indent\n");
    for line in lines.lines() {
        writeln!(
            out,
            "{}",
            guarded(&text(line.strip_prefix("    ").filter(|_| lines.starts_with("    ")).unwrap_or(line)))
        )
        .unwrap();
    }
    out + ".Ed\n"
}

/// One sentence after the other, each on lines of its own, none longer than a terminal's.
fn prose(paragraph: &str) -> String {
    let mut out = String::new();
    for sentence in sentences(paragraph) {
        let mut line = String::new();
        for word in text(sentence).split(' ') {
            if !line.is_empty() && line.len() + word.len() > 76 {
                writeln!(out, "{}", guarded(&line)).unwrap();
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        writeln!(out, "{}", guarded(&line)).unwrap();
    }
    out
}

/// A line that begins like a request is none.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

/// Characters that mean something to the formatter, and minus signs, as themselves.
fn text(plain: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    let plain = plain.replace("()", "");
    let mut characters = plain.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.push_str("\\e"),
            '-' if !before.is_alphanumeric()
                && characters.peek().is_some_and(|next| next.is_alphanumeric()) =>
            {
                out.push_str("\\-")
            }
            other => out.push(other),
        }
        before = character;
    }
    out
}

fn lower(sentence: &str) -> String {
    let mut characters = sentence.chars();
    match (characters.next(), characters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().collect::<String>() + &sentence[first.len_utf8()..]
        }
        _ => sentence.to_owned(),
    }
}

fn upper(sentence: &str) -> String {
    // A name stays as it is.
    if sentence.split(' ').next().is_some_and(|word| word.contains('_')) {
        return sentence.to_owned();
    }
    let mut characters = sentence.chars();
    let first: String = characters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    first + characters.as_str()
}
