//! See `gear_fuzz::kafka_position`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(kafka_position);
