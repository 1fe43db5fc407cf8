//! An app master meets a store that answers anything, and never panics.

use gear_core::app::{AppMaster, AppPlan, Placement, ProcessorPlan};
use gear_core::checkpoint::record::Identity;
use gear_core::effect::StoreRequest;
use gear_core::id::{ExecutorId, ProcessorId, Token};
use gear_core::message::Input;
use gear_core::time::{Time, seconds};

use crate::script::{Script, requests};

/// Runs an app master as the bytes say.
pub fn run(bytes: &[u8]) {
    let mut script = Script(bytes);
    let flags = script.byte();
    let mut plan = AppPlan::new(Identity::default(), 1);
    for (number, uid) in ["source", "sink"].into_iter().enumerate() {
        let id = ProcessorId(number as u32);
        plan.processors.push(ProcessorPlan {
            id,
            uid: uid.to_owned(),
            parallelism: 1,
            source: number == 0,
            sink: number == 1,
            ..ProcessorPlan::default()
        });
    }
    let places = plan.tasks().map(|(task, _)| (task, ExecutorId(0)));
    plan.placement = Placement::Fixed(places.collect());
    plan.drop_state = flags & 1 > 0;
    plan.fall_back = flags & 2 > 0;

    let mut master: AppMaster = AppMaster::new(plan);
    let mut effects = Vec::new();
    let mut now = Time::ZERO;
    let mut open: Vec<(Token, StoreRequest)> = Vec::new();
    master.handle(now, Input::Start, &mut effects);
    loop {
        open.extend(requests(std::mem::take(&mut effects)));
        let Some(choice) = script.next() else { break };
        let input = match choice {
            0..=9 => Input::Stop,
            10..=39 => {
                now = now + seconds(u64::from(choice));
                Input::Timeout
            }
            // An answer that nobody waits for.
            40..=44 => {
                let request = StoreRequest::List { prefix: String::new() };
                Input::Stored { token: Token(script.number()), reply: script.reply(&request) }
            }
            _ if open.is_empty() => Input::Timeout,
            _ => {
                let (token, request) = open.swap_remove(usize::from(choice) % open.len());
                Input::Stored { token, reply: script.reply(&request) }
            }
        };
        master.handle(now, input, &mut effects);
        let _ = (master.status(now), master.next_timeout(), master.outcome());
    }
}
