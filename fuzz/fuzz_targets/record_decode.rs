//! See `gear_fuzz::record_decode`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(record_decode);
