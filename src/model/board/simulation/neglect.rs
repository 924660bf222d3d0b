//! The watchdog's view of the board: work that nothing will wake.

use std::time::Duration;

use super::super::super::job::*;
use super::super::*;
use super::world::{MB, World};

/// What keeps work back, one thing at a time.
type Kept = fn(&mut Board, JobId, Now);

#[test]
fn work_that_nothing_will_wake_is_seen_unless_something_keeps_it_back() {
    // The operations are lost, as no event makes it; what is done about the job before that differs.
    let lost = |keep: Kept| {
        let mut world = World::new(1e8);
        let id = world.add(0, 5 * MB);
        world.boot();
        assert!(!world.board.is_quiet(), "create is under way");
        keep(&mut world.board, id, world.now);
        world.board.operations.clear();
        world.board.neglected(world.now)
    };
    assert_eq!(lost(|_, _, _| {}), Some(JobId(1)));
    let kept: [(&str, Kept); 6] = [
        ("back-off", |board, id, now| {
            board.tasks.get_mut(&id).unwrap().not_before = now.boot + Duration::from_secs(1);
        }),
        ("pause", |board, _, _| board.queue.set_paused(FolderId(0), true)),
        ("stopping", |board, _, _| board.stopping = true),
        ("hold of the store", |board, _, now| {
            let reason = Reason::local(Code::StoreFull, "full");
            board.hold(Scope::Store, reason, Operation::ListFiles, now);
        }),
        ("hold of the account", |board, _, now| {
            let scope = Scope::Account(AccountName("default".into()));
            board.hold(scope, Reason::local(Code::KeyRejected, "no"), Operation::Create, now);
        }),
        ("pace", |board, _, now| {
            let until = now.boot + Duration::from_secs(9);
            board.gates.slow_down(&AccountName("default".into()), until, 8, now.boot);
        }),
    ];
    for (name, keep) in kept {
        assert_eq!(lost(keep), None, "{name}");
    }
}

#[test]
fn a_commit_that_is_awaited_is_no_neglect_and_a_job_in_the_queue_is_work() {
    let mut world = World::new(1e8);
    let id = world.add(0, 5 * MB);
    world.boot();
    while !world.board.operations.values().any(|running| running.kind == Kind::Complete) {
        world.one();
    }
    world.board.operations.clear();
    let task = world.board.tasks.get_mut(&id).unwrap();
    task.under_way.clear();
    task.committed = false;
    assert_eq!(world.board.neglected(world.now), None, "its commit will come");
    world.board.tasks.get_mut(&id).unwrap().committed = true;
    assert_eq!(world.board.neglected(world.now), Some(id), "it came, and complete was not sent");
    let task = world.board.tasks.remove(&id).unwrap();
    assert_eq!(world.board.neglected(world.now), None, "no work");
    world.board.queue.push_first(task.job);
    assert_eq!(world.board.neglected(world.now), Some(id), "it waits, and nobody opens it");
}
