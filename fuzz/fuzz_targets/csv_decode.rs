//! See `gear_fuzz::csv_decode`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(csv_decode);
