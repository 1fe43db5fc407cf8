//! See `gear_fuzz::json_decode`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(json_decode);
