//! What a pool runs on. One engine so far: the processors of this machine.

mod brake;
pub(crate) mod family;
pub(crate) mod finish;
pub(crate) mod handover;
mod link;
pub(crate) mod member;
pub(crate) mod share;
