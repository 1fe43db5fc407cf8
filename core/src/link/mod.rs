//! Links: what the processes of an app say to each other, over connections that may break.

pub mod handshake;
