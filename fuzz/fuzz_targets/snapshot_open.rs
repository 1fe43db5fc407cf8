//! See `gear_fuzz::snapshot_open`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(snapshot_open);
