//! See `gear_fuzz::stream_decode`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(stream_decode);
