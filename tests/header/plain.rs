//! `include/tine-ffi.h`, for parsers that are no C compilers: what `tine.h` declares, with C's own types, constants as
//! enums, and no line for a preprocessor. Each field has its offset beside it, for languages that pack structs by hand.

use std::collections::HashMap;
use std::fmt::Write as _;

const TYPES: &[(&str, &str)] = &[
    ("size_t", "unsigned long"),
    ("uint64_t", "unsigned long"),
    ("int64_t", "long"),
    ("uint32_t", "unsigned int"),
    ("int32_t", "int"),
    ("bool", "_Bool"),
    ("pid_t", "int"),
];

const HEAD: &str = "\
/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What tine.h declares, for what parses C without being a C compiler: enums and plain prototypes. Made by `make header`.
 * TINE_FOREVER, which is no int, is 9223372036854775807. Beside each field stands its offset in bytes; see docs/ffi.md.
 */
";

pub fn plain(header: &str) -> String {
    let mut constants = Vec::new();
    let mut code = String::new();
    let mut skipping = false;
    let without_comments = without_comments(header).replace("\\\n", " ");
    for line in without_comments.lines() {
        if let Some(definition) = line.strip_prefix("#define ") {
            let (name, value) = definition.split_once(' ').unwrap_or((definition, ""));
            constants.extend(number(value).map(|value| (name.to_owned(), value)));
        } else if line.starts_with("#if") {
            skipping = line != "#ifndef TINE_H";
        } else if line.starts_with("#endif") {
            skipping = false;
        } else if !line.starts_with('#') && !skipping && !line.trim().is_empty() {
            writeln!(code, "{}", in_plain_types(line.trim_end(), &constants)).unwrap();
        }
    }
    let mut out = format!("{HEAD}\nenum {{\n");
    for (name, value) in &constants {
        writeln!(out, "    {name} = {value},").unwrap();
    }
    out.push_str("};\n\n");
    out.push_str(&with_offsets(&code.replace(")\n    ;", ");")));
    out
}

fn without_comments(header: &str) -> String {
    let mut out = String::new();
    let mut rest = header;
    while let Some((code, comment)) = rest.split_once("/*") {
        out.push_str(code);
        rest = comment.split_once("*/").expect("comments end").1;
    }
    out + rest
}

/// The value of a constant that an enum can have.
fn number(text: &str) -> Option<i32> {
    let text = text.trim().trim_start_matches('(').trim_end_matches(')');
    match text.split_once("<<") {
        Some((left, right)) => left.trim().parse::<i32>().ok()?.checked_shl(right.trim().parse().ok()?),
        None => text.parse().ok(),
    }
}

fn in_plain_types(line: &str, constants: &[(String, i32)]) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for character in line.chars().chain(['\n']) {
        if character.is_alphanumeric() || character == '_' {
            word.push(character);
            continue;
        }
        let plain = TYPES.iter().find(|(name, _)| *name == word).map(|(_, plain)| (*plain).to_owned());
        let value = || constants.iter().find(|(name, _)| *name == word).map(|(_, value)| value.to_string());
        out.push_str(&plain.or_else(value).unwrap_or_else(|| word.clone()));
        out.push(character);
        word.clear();
    }
    out.truncate(out.len() - 1);
    out
}

/// Writes behind each field where it is, and behind each struct how long it is, on machines of 64 bits.
fn with_offsets(code: &str) -> String {
    let mut sizes: HashMap<String, usize> = HashMap::new();
    let mut out = String::new();
    let mut offset = None;
    for line in code.lines() {
        if line.starts_with("typedef struct") && line.ends_with('{') {
            offset = Some(0_usize);
        } else if let (Some(name), Some(end)) = (line.strip_prefix("} "), offset) {
            let name = name.trim_end_matches(';');
            sizes.insert(name.to_owned(), end.next_multiple_of(alignment(end)));
            writeln!(out, "{line} /* {} */", sizes[name]).unwrap();
            offset = None;
            continue;
        } else if let Some(at) = &mut offset {
            let (size, count) = extent(line.trim(), &sizes);
            *at = at.next_multiple_of(alignment(size));
            writeln!(out, "{line} /* {at} */").unwrap();
            *at += size * count;
            continue;
        }
        let alias = line.strip_prefix("typedef ").and_then(|rest| rest.rsplit_once(' '));
        if let Some((kind, name)) = alias
            && !kind.contains(['(', '{'])
            && !kind.starts_with("struct")
        {
            sizes.insert(name.trim_end_matches(';').to_owned(), size_of(kind, &sizes));
        }
        writeln!(out, "{line}").unwrap();
    }
    out
}

/// Structs of more than four bytes have a word of eight in them, and are as aligned as that.
fn alignment(size: usize) -> usize {
    if size >= 8 { 8 } else { size.max(1) }
}

/// The size of a field's element, and how many there are.
fn extent(field: &str, sizes: &HashMap<String, usize>) -> (usize, usize) {
    if field.contains("(*") {
        return (8, 1);
    }
    let (declaration, count) = match field.split_once('[') {
        Some((declaration, rest)) => {
            (declaration, rest.trim_end_matches("];").parse().expect("a number of elements"))
        }
        None => (field.trim_end_matches(';'), 1),
    };
    if declaration.contains('*') {
        return (8, count);
    }
    (size_of(declaration.rsplit_once(' ').expect("a type and a name").0, sizes), count)
}

fn size_of(kind: &str, sizes: &HashMap<String, usize>) -> usize {
    match kind.trim_start_matches("const ") {
        "unsigned long" | "long" | "tine_fn" | "tine_item_fn" | "tine_range_fn" => 8,
        "unsigned int" | "int" => 4,
        "char" | "_Bool" => 1,
        name => *sizes.get(name).unwrap_or_else(|| panic!("the size of {name} is not known")),
    }
}
