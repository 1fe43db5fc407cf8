//! Runs seeds of the direct simulator.

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let seed = args[1].parse().unwrap_or(0);
    let count = args.get(2).and_then(|it| it.parse().ok()).unwrap_or(1);
    let print = args.get(3).is_some();
    let mut bad = 0;
    for seed in seed..seed + count {
        let report = sim::direct::run(seed, &sim::direct::Options { print, keep: false });
        if !report.violations.is_empty() {
            bad += 1;
            println!("{seed}: {:?} {}", report.violations, sim::direct::Config::draw(seed).plan.describe());
        }
    }
    println!("{bad} bad");
}
