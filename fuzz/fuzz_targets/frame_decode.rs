//! See `gear_fuzz::frame_decode`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(frame_decode);
