//! See `gear_fuzz::graph_validate`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(graph_validate);
