//! Many nodes at once.
//!
//! Within a window of the world's clock no node hears of another (see [`crate::World`]), so it does not matter which
//! runs first, or whether they run at the same time. The nodes are divided into lanes, ranges of them side by side,
//! and each lane has a thread. What a node sends goes into the outbox of its lane. When all lanes have got to the end
//! of the window, each fetches what is for its own nodes, from one outbox after the other: in the order of the senders,
//! as if they had all run in one lane. So the outcome does not depend on the number of lanes.

use crate::basics::NodeId;
use crate::network::{Hosts, Network, Outbox};
use crate::node::Node;
use crate::queue::{Arrival, Inbox};
use std::collections::VecDeque;
use std::panic::resume_unwind;
use swarm_core::time::Time;

/// The nodes, and what is on its way between them.
#[derive(Debug)]
pub(crate) struct Lanes {
    pub(crate) nodes: Vec<Node>,
    /// By node.
    pub(crate) inboxes: Vec<Inbox>,
    /// By lane; empty whenever no node runs.
    pub(crate) outboxes: Vec<Outbox>,
    /// How many nodes each lane has; the last one may have fewer.
    lane_len: usize,
}

impl Lanes {
    pub(crate) fn new() -> Lanes {
        Lanes { nodes: Vec::new(), inboxes: Vec::new(), outboxes: vec![Outbox::new()], lane_len: usize::MAX }
    }

    /// Divides the nodes into so many lanes.
    pub(crate) fn divide(&mut self, lanes: usize) {
        self.lane_len = self.nodes.len().div_ceil(lanes).max(1);
        self.outboxes.resize_with(lanes, Outbox::new);
        self.outboxes.iter_mut().for_each(|outbox| outbox.set_lanes(lanes, self.lane_len));
    }

    /// Lets every node catch up with what happens before `end`.
    pub(crate) fn run(&mut self, start: Time, end: Time, hosts: &Hosts) {
        let nodes = self.nodes.chunks_mut(self.lane_len);
        let inboxes = self.inboxes.chunks_mut(self.lane_len);
        let lanes = nodes.zip(inboxes).zip(&mut self.outboxes);
        in_parallel(lanes.map(|((nodes, inboxes), outbox)| {
            move || catch_up(nodes, inboxes, start, end, &mut Network { hosts, outbox })
        }));
        self.deliver();
    }

    /// Lets something happen to one node while none runs.
    pub(crate) fn touch(&mut self, id: NodeId, hosts: &Hosts, change: impl FnOnce(&mut Node, &mut Network)) {
        let (node, outbox) = (&mut self.nodes[id.0 as usize], &mut self.outboxes[0]);
        change(node, &mut Network { hosts, outbox });
        outbox.deliver(&mut self.inboxes);
        self.inboxes[id.0 as usize].note_next(node.poll_timeout());
    }

    /// Brings what is in the outboxes to the inboxes.
    fn deliver(&mut self) {
        let mut mail: Vec<Vec<&mut Vec<Arrival>>> = Vec::new();
        mail.resize_with(self.outboxes.len(), Vec::new);
        for outbox in &mut self.outboxes {
            for (to_lane, from_lane) in mail.iter_mut().zip(&mut outbox.mail) {
                to_lane.push(from_lane);
            }
        }
        let lanes = self.inboxes.chunks_mut(self.lane_len).zip(mail).enumerate();
        in_parallel(lanes.map(|(lane, (inboxes, mail))| {
            let first = lane * self.lane_len;
            move || {
                for arrival in mail.into_iter().flat_map(|mail| mail.drain(..)) {
                    inboxes[arrival.to.0 as usize - first].leave(arrival);
                }
            }
        }));
    }
}

/// Lets the nodes of a lane catch up, one after the other, each in the order of its own events.
fn catch_up(nodes: &mut [Node], inboxes: &mut [Inbox], start: Time, end: Time, net: &mut Network) {
    let mut due = VecDeque::new();
    for (node, inbox) in nodes.iter_mut().zip(inboxes) {
        if inbox.next_at.is_some_and(|at| at < end) {
            inbox.take_due(end, &mut due);
            node.run(start, end, &mut due, net);
            inbox.note_next(node.poll_timeout());
        }
    }
}

/// Does all of this at the same time, the first on this thread.
///
/// # Panics
/// If one of them does: with the panic of the first that did.
fn in_parallel<Job: FnOnce() + Send>(mut jobs: impl Iterator<Item = Job>) {
    let Some(first) = jobs.next() else { return };
    std::thread::scope(|scope| {
        let others: Vec<_> = jobs.map(|job| scope.spawn(job)).collect();
        first();
        for other in others {
            if let Err(panic) = other.join() {
                resume_unwind(panic);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn the_panic_of_the_first_job_that_failed_is_passed_on() {
        for failing in [vec![0], vec![1], vec![2, 3], vec![0, 3]] {
            let job = |i: usize| {
                let fails = failing.contains(&i);
                move || assert!(!fails, "job {i}")
            };
            let panic = catch_unwind(AssertUnwindSafe(|| in_parallel((0..4).map(job)))).unwrap_err();
            assert_eq!(panic.downcast_ref::<String>().unwrap(), &format!("job {}", failing[0]));
        }
    }
}
