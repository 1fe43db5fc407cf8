//! The bodies of the fuzz targets, which an ordinary test also runs over the committed corpus.
//!
//! A target has a module here with a function `run`, its name in `targets!` below, a file in
//! `fuzz_targets/` and its `[[bin]]` in the manifest, and seeds in `corpus/NAME/`.
//!
//! To look for new inputs, which go to the first folder:
//! `cargo +nightly fuzz run NAME /tmp/NAME fuzz/corpus/NAME`.
//! To run single inputs without cargo-fuzz: `cargo run -p gear-fuzz --bin NAME -- FILE...`.

mod script;
pub mod seeds;

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(pub mod $name;)*

        /// The name and the body of every target.
        pub const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name::run)),*];
    };
}
targets! {
    app_master,
    avro_decode,
    commit_log,
    connector_open,
    csv_decode,
    frame_decode,
    graph_validate,
    input_clock,
    json_decode,
    kafka_position,
    link_receive,
    message_decode,
    protobuf_decode,
    quarantine_decode,
    record_decode,
    record_log_decode,
    rest_savepoint,
    rest_submit,
    rest_voters,
    snapshot_open,
    stream_decode,
}

#[cfg(fuzzing)]
#[doc(hidden)]
pub use libfuzzer_sys;

/// The program of a target: libFuzzer's under cargo-fuzz, else one that runs the files it is given.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::$name::run(bytes));

        #[cfg(not(fuzzing))]
        fn main() -> ::std::io::Result<()> {
            for path in ::std::env::args_os().skip(1) {
                $crate::$name::run(&::std::fs::read(path)?);
            }
            Ok(())
        }
    };
}
