//! What a pool runs on. One engine so far: the processors of this machine.

pub(crate) mod family;
mod link;
pub(crate) mod member;
pub(crate) mod share;
