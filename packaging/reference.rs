//! Makes the reference of `tine.h`'s comments: a manual page for each call and each type (`man 3 tine_submit`), or the same in
//! Markdown, for the book.
//!
//! reference man|markdown HEADER DIRECTORY DATE

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::{env, fs};

#[path = "reference/man.rs"]
mod man;
#[path = "reference/markdown.rs"]
mod markdown;

/// What has a comment: a call, a type or a constant.
pub struct Entry {
    pub name: String,
    /// The title of its part of the header.
    pub subject: String,
    /// The comment, a string for each paragraph; what begins with four spaces is code.
    pub text: Vec<String>,
    /// As it stands in the header, without comments.
    pub declaration: String,
    /// A struct's fields with their comments: (declaration, paragraphs).
    pub fields: Vec<(String, Vec<String>)>,
}

/// The parts that comments consist of, in the order in which a page has them.
pub const PARTS: [&str; 5] = ["Parameters", "Returns", "Ownership", "Threads", "Fork"];

impl Entry {
    pub fn is_constant(&self) -> bool {
        self.declaration.starts_with("#define")
    }

    pub fn is_call(&self) -> bool {
        !self.is_constant() && !self.declaration.starts_with("typedef")
    }

    /// The first sentence, as a title.
    pub fn summary(&self) -> String {
        let first = &self.text[0];
        let end = first.find(". ").or(first.find(": ")).unwrap_or(first.len());
        first[..end].trim_end_matches(['.', ':']).to_owned()
    }

    /// The comment taken apart: what has no label first, then each of PARTS.
    pub fn parts(&self) -> (Vec<String>, BTreeMap<usize, String>) {
        let mut description = Vec::new();
        let mut parts: BTreeMap<usize, String> = BTreeMap::new();
        let mut current = None;
        for paragraph in &self.text {
            if paragraph.starts_with("    ") {
                description.push(paragraph.clone());
                continue;
            }
            let mut plain = String::new();
            for sentence in sentences(paragraph) {
                let label = PARTS.iter().position(|part| {
                    sentence.strip_prefix(part).is_some_and(|rest| {
                        rest.starts_with(':') || *part == "Returns" && rest.starts_with([' ', ','])
                    })
                });
                let text = match label {
                    Some(1) => sentence["Returns".len()..].trim_start_matches([' ', ',']),
                    Some(part) => sentence[PARTS[part].len() + 1..].trim_start(),
                    None => sentence,
                };
                current = label.or(current);
                let place = current.map_or(&mut plain, |part| parts.entry(part).or_default());
                if !place.is_empty() {
                    place.push(' ');
                }
                place.push_str(text);
            }
            if !plain.is_empty() {
                description.push(plain);
            }
        }
        (description, parts)
    }

    /// The other entries that it speaks of.
    pub fn mentions<'a>(&self, entries: &'a [Entry]) -> Vec<&'a str> {
        let mut all = self.declaration.clone();
        for text in self.text.iter().chain(self.fields.iter().flat_map(|(_, text)| text)) {
            all.push(' ');
            all.push_str(text);
        }
        let words: Vec<&str> = all.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let mut names: Vec<&str> = entries
            .iter()
            .filter(|entry| {
                !entry.is_constant() && entry.name != self.name && words.contains(&entry.name.as_str())
            })
            .map(|entry| entry.name.as_str())
            .collect();
        names.sort_unstable();
        names
    }
}

/// A paragraph's sentences: what ends with a full stop and is followed by a space and a capital letter, or by a label.
pub fn sentences(paragraph: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut begin = 0;
    for (at, _) in paragraph.match_indices(". ") {
        let rest = paragraph[at + 2..].chars().next();
        if rest.is_some_and(|next| !next.is_lowercase()) && !paragraph[..at].ends_with(" a.k.a") {
            out.push(&paragraph[begin..=at]);
            begin = at + 2;
        }
    }
    out.push(&paragraph[begin..]);
    out
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [format, header, directory, date] = arguments.as_slice() else {
        panic!("usage: reference man|markdown HEADER DIRECTORY DATE");
    };
    let text = fs::read_to_string(header).unwrap_or_else(|error| panic!("{header}: {error}"));
    let (conventions, entries) = parse(&text);
    let pages = match format.as_str() {
        "man" => man::pages(&conventions, &entries, date),
        "markdown" => markdown::pages(&conventions, &entries),
        other => panic!("{other}: man or markdown"),
    };
    fs::create_dir_all(directory).unwrap_or_else(|error| panic!("{directory}: {error}"));
    for (name, page) in pages {
        let path = format!("{directory}/{name}");
        fs::write(&path, page).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

/// The conventions at the head of the header, a (name, text) each, and everything that has a comment.
fn parse(header: &str) -> (Vec<(String, String)>, Vec<Entry>) {
    let mut conventions: Vec<(String, String)> = Vec::new();
    for line in header.lines().skip_while(|line| !line.contains("Conventions")).skip(2) {
        let Some(text) = line.strip_prefix(" *   ") else { break };
        match text.strip_prefix("            ") {
            Some(more) => {
                let last = conventions.last_mut().expect("a convention has a name");
                write!(last.1, " {}", more.trim()).unwrap();
            }
            None => {
                let (name, rest) = text.split_once(' ').expect("a name and a text");
                conventions.push((name.to_owned(), rest.trim().to_owned()));
            }
        }
    }
    let mut entries = Vec::new();
    let mut subject = String::from("Handles");
    let mut lines = header.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("/* ---- ") {
            subject = title.trim_end_matches(['-', '*', '/', ' ']).to_owned();
        }
        if !line.starts_with("/**") {
            continue;
        }
        let text = comment(line, &mut lines);
        let mut declaration = String::new();
        let mut fields = Vec::new();
        let mut of_field = Vec::new();
        while let Some(line) = lines.next() {
            if line.trim_start().starts_with("/**") {
                of_field = comment(line, &mut lines);
                continue;
            }
            // What compilers are told besides.
            if line.starts_with("#if") {
                lines.by_ref().find(|line| line.starts_with("#endif"));
                continue;
            }
            writeln!(declaration, "{line}").unwrap();
            if !of_field.is_empty() {
                fields.push((line.trim().trim_end_matches(';').to_owned(), std::mem::take(&mut of_field)));
            }
            let open = declaration.contains('{') && !line.starts_with('}');
            if !open && (line.ends_with(';') || declaration.starts_with("#define") && !line.ends_with('\\')) {
                break;
            }
        }
        let declaration = declaration.trim_end().replace("\n    ;", ";");
        entries.push(Entry { name: name(&declaration), subject: subject.clone(), text, declaration, fields });
    }
    (conventions, entries)
}

/// The paragraphs of a comment that begins with this line.
fn comment<'a>(first: &str, lines: &mut impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut text = vec![first.trim().trim_start_matches("/**").to_owned()];
    while !text.last().is_some_and(|line| line.ends_with("*/")) {
        let line = lines.next().expect("comments end").trim_start();
        text.push(line.strip_prefix("* ").unwrap_or(line.trim_start_matches("*")).to_owned());
        if line.ends_with("*/") {
            *text.last_mut().expect("there is one") = line.trim_start_matches("* ").to_owned();
        }
    }
    let mut paragraphs = vec![String::new()];
    for line in text {
        let line = line.trim_end_matches("*/").trim_end();
        let last = paragraphs.last_mut().expect("there is one");
        let code = line.starts_with("    ");
        if line.is_empty() || line == "/" {
            paragraphs.push(String::new());
        } else if last.is_empty() {
            last.push_str(if code { line } else { line.trim() });
        } else if last.starts_with("    ") == code {
            last.push(if code { '\n' } else { ' ' });
            last.push_str(if code { line } else { line.trim() });
        } else {
            paragraphs.push(if code { line } else { line.trim() }.to_owned());
        }
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    paragraphs
}

fn name(declaration: &str) -> String {
    let last = declaration.lines().last().unwrap_or_default();
    let text = if let Some(constant) = declaration.strip_prefix("#define ") {
        constant.split(' ').next().unwrap_or_default()
    } else if let Some((_, callback)) =
        declaration.split_once("(*").filter(|_| !last.starts_with('}') && declaration.starts_with("typedef"))
    {
        callback.split(')').next().unwrap_or_default()
    } else if declaration.starts_with("typedef") {
        last.trim_end_matches(';').rsplit(' ').next().unwrap_or_default()
    } else {
        declaration.split('(').next().unwrap_or_default().rsplit([' ', '*']).next().unwrap_or_default()
    };
    text.to_owned()
}
