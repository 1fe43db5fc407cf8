//! The app master over a model store.

mod random;
mod regions;
mod savepoints;
mod single;
mod world;
