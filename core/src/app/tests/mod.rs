//! The app master over a model store.

mod random;
mod single;
mod world;
