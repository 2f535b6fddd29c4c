//! The small rings that are explored. Each is as small as what it is about allows: what it leaves out, another one has.

use crate::ring::{Initially, Op, Op::*, Plan, Ring};

fn one_move<const N: usize>(scripts: [&[Op]; N]) -> Ring {
    Ring { scripts: scripts.map(<[Op]>::to_vec).to_vec(), ..Ring::default() }
}

fn there_and_back<const N: usize>(scripts: [&[Op]; N]) -> Ring {
    Ring { plan: vec![Plan::MoveTo(1), Plan::MoveTo(0)], ..one_move(scripts) }
}

const USUAL: [&[Op]; 2] = [&[Set, Get], &[Delete, Get]];
const SMALL: [&[Op]; 2] = [&[Set], &[Get]];

pub(crate) fn usual() -> Ring {
    one_move(USUAL)
}

pub(crate) fn one_loss() -> Ring {
    Ring { losses: 1, ..usual() }
}

pub(crate) fn two_losses() -> Ring {
    Ring { losses: 2, ..usual() }
}

pub(crate) fn three_clients() -> Ring {
    Ring { losses: 1, ..one_move([&[Set], &[Delete], &[Get, Get]]) }
}

pub(crate) fn set_and_delete() -> Ring {
    Ring { losses: 1, ..one_move([&[Set], &[Delete]]) }
}

pub(crate) fn set_and_set() -> Ring {
    Ring { losses: 1, ..one_move([&[Set], &[Set, Get]]) }
}

pub(crate) fn create() -> Ring {
    Ring { initially: Initially::Absent, losses: 1, ..one_move([&[Create, Get], &[Upsert, Delete]]) }
}

pub(crate) fn foreign() -> Ring {
    Ring {
        initially: Initially::Absent,
        losses: 1,
        ..one_move([&[Upsert, DeleteForeign], &[Upsert, Inspect]])
    }
}

pub(crate) fn deleted() -> Ring {
    Ring { initially: Initially::Deleted, losses: 1, ..one_move([&[Create, Get], &[Upsert, Get], &[Set]]) }
}

pub(crate) fn update() -> Ring {
    Ring { losses: 1, ..one_move([&[Update], &[Get, Update]]) }
}

pub(crate) fn updates_and_a_log_out() -> Ring {
    Ring { losses: 1, ..one_move([&[Get, Update], &[Update, Get], &[Delete]]) }
}

pub(crate) fn expiry() -> Ring {
    Ring { losses: 1, ticks: 2, ..usual() }
}

pub(crate) fn late_and_expired() -> Ring {
    Ring { losses: 1, ticks: 2, ..one_move([&[Set]]) }
}

pub(crate) fn touches() -> Ring {
    Ring { losses: 1, ticks: 1, ..one_move([&[Set, Get], &[Touch, Inspect]]) }
}

pub(crate) fn shortened() -> Ring {
    Ring { losses: 1, ticks: 2, clean_up: false, ..one_move([&[Set], &[TouchShort]]) }
}

pub(crate) fn back() -> Ring {
    there_and_back(USUAL)
}

pub(crate) fn back_with_a_loss() -> Ring {
    Ring { losses: 1, ..there_and_back(SMALL) }
}

pub(crate) fn back_to_old_data() -> Ring {
    Ring { restores: [1, 0, 0], clean_up: false, ..there_and_back([&[Delete]]) }
}

pub(crate) fn source_wiped() -> Ring {
    Ring { wipes: [1, 0, 0], ..usual() }
}

pub(crate) fn source_wiped_with_a_loss() -> Ring {
    Ring { wipes: [1, 0, 0], losses: 1, ..one_move(SMALL) }
}

pub(crate) fn target_wiped() -> Ring {
    Ring { wipes: [0, 1, 0], ..usual() }
}

pub(crate) fn target_wiped_with_a_loss() -> Ring {
    Ring { wipes: [0, 1, 0], losses: 1, ..one_move(SMALL) }
}

pub(crate) fn target_wiped_twice() -> Ring {
    Ring { wipes: [0, 2, 0], losses: 1, ..one_move(SMALL) }
}

pub(crate) fn source_restored() -> Ring {
    Ring { restores: [1, 0, 0], ..usual() }
}

pub(crate) fn source_restored_small() -> Ring {
    Ring { restores: [1, 0, 0], ..one_move([&[Delete], &[Get]]) }
}

pub(crate) fn target_restored() -> Ring {
    Ring { restores: [0, 1, 0], ..usual() }
}

pub(crate) fn source_restored_strict() -> Ring {
    Ring { strict: true, ..source_restored() }
}

pub(crate) fn source_restored_strict_small() -> Ring {
    Ring { restores: [1, 0, 0], strict: true, ..one_move(SMALL) }
}

pub(crate) fn target_restored_strict() -> Ring {
    Ring { strict: true, ..target_restored() }
}

pub(crate) fn source_dies() -> Ring {
    Ring { nodes: 3, deaths: [1, 0, 0], ..usual() }
}

pub(crate) fn target_dies() -> Ring {
    Ring { nodes: 3, deaths: [0, 1, 0], ..usual() }
}

pub(crate) fn target_full() -> Ring {
    Ring { full: [false, true, false], losses: 1, ..usual() }
}
