//! Messages and settings of the control socket, of any bytes.

use super::function::Tables;
use super::settings::Settings;
use super::wire::{Message, Reader, Writer};
use crate::fuzz;

fn message(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes, Vec::new()) else { return };
    let again = Message::decode(&message.encode(), Vec::new()).unwrap();
    assert_eq!((again.kind, again.words, again.text), (message.kind, message.words, message.text));
}

/// What has been read once reads the same again, and nothing is read that was not there.
fn settings(bytes: &[u8]) {
    let Ok(settings) = Settings::decode(&mut Reader(bytes), None) else { return };
    let mut first = Writer::default();
    settings.encode(&mut first);
    let mut second = Writer::default();
    Settings::decode(&mut Reader(&first.written), None).unwrap().encode(&mut second);
    assert_eq!(first.written, second.written);
}

fn entry(input: &[u8]) {
    let Some((which, bytes)) = input.split_first() else { return };
    match which % 3 {
        0 => message(bytes),
        1 => settings(bytes),
        _ => drop(Tables::decode(&mut Reader(bytes))),
    }
}

#[test]
fn fuzz_wire_messages() {
    fuzz::run("wire", entry);
}
