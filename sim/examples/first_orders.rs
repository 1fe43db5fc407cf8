//! The first order of each customer, done wrong and done right.
//!
//! The wrong job remembers its customers in a variable of its own. Every ordinary test of it
//! passes: only a crash shows that the engine knows nothing of that variable.
//!
//! `cargo test -p sim --example first_orders`

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use gear_connectors::files;
use gear_core::api::Ref;
use gear_core::dsl::App;
use sim::{Cluster, Faults, Seeds};

/// The customer of an order, its first word.
fn customer(order: &str) -> &str {
    order.split(' ').next().unwrap_or_default()
}

/// Remembers the customers in a variable of its own.
fn forgetful(app: &mut App) -> Result<(), String> {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    app.source("orders", files::source(["in/orders.txt"]))
        .flat_map::<Ref<str>, _>("first", move |order, out| {
            let mut seen = seen.lock().expect("nobody panics while it is locked");
            if seen.insert(customer(order).to_owned()) {
                out.push(order);
            }
        })
        .sink("first-orders", files::lines_sink::<Ref<str>>("out"));
    Ok(())
}

/// Lets the engine remember them.
fn correct(app: &mut App) -> Result<(), String> {
    app.source("orders", files::source(["in/orders.txt"]))
        .key_by_ref(|order| customer(order))
        .distinct("first")
        .sink("first-orders", files::lines_sink::<Ref<str>>("out"));
    Ok(())
}

/// 600 orders of 150 customers.
fn orders() -> String {
    (0..600_u64).map(|number| format!("customer-{} order-{number}\n", number * 7 % 150)).collect()
}

fn cluster(job: fn(&mut App) -> Result<(), String>) -> Cluster<'static> {
    Cluster::new(job)
        .masters(3)
        .workers(4)
        .parallelism(1)
        .file("in/orders.txt", orders())
        .faults(Faults::all())
}

/// Seeds over sockets, each of which takes about a second.
#[cfg(test)]
const SOCKETS_SEEDS: u64 = 12;
/// Seeds over sockets of which one loses an executor that has read a part of the input.
#[cfg(test)]
const FORGETFUL_SEEDS: u64 = 40;

fn main() {
    let all = cluster(correct).check(Seeds::first(100));
    println!("right in {} seeds, with these faults: {:?}", all.seeds, all.fired);
    // This panics, and says with which seed.
    cluster(forgetful).check(Seeds::first(100));
}

#[test]
fn state_in_the_engine_survives() {
    cluster(correct).check(Seeds::first(1_000));
}

#[test]
fn state_in_the_engine_survives_over_sockets() {
    let all = cluster(correct).turmoil().check(Seeds::first(SOCKETS_SEEDS));
    assert!(all.epochs > 0 && all.records > 0 && all.recoveries > 0, "{all:?}");
}

#[test]
fn state_outside_of_the_engine_does_not_survive_over_sockets() {
    let check = || cluster(forgetful).turmoil().check(Seeds::first(FORGETFUL_SEEDS));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
    let panic = panic.expect_err("a crash forgets the customers");
    let message = panic.downcast_ref::<String>().expect("a check says what is wrong");
    assert!(message.contains("out holds `customer-"), "{message}");
}

#[test]
fn state_outside_of_the_engine_does_not() {
    let check = || cluster(forgetful).check(Seeds::first(1_000));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
    let panic = panic.expect_err("a crash forgets the customers");
    let message = panic.downcast_ref::<String>().expect("a check says what is wrong");
    assert!(message.contains("out holds `customer-"), "{message}");
    // What it prints runs that seed again, and fails again.
    let code = message.split("Seeds::replay(\"").nth(1).and_then(|it| it.split('"').next());
    let code = code.expect("it says how to run it again").to_owned();
    let again = move || cluster(forgetful).check(Seeds::replay(&code));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(again)).is_err());
}
