//! The app master over a model store.

mod random;
mod regions;
mod single;
mod world;
