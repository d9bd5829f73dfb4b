//! How many seats a request takes, and for how long after its answer: lists by the bytes they go through, writes by the
//! watchers that hear of them.
//!
//! Pure.

use std::time::Duration;

use super::queue_set::Work;

/// A seat for so many bytes of a list.
const BYTES_PER_SEAT: u64 = 100_000;
/// Lists are streamed from the cache: so much of one is in memory at once.
const LIST_BYTES_MAX: u64 = 1_000_000;
/// Bounds of one request, whatever its level has.
const LIST_SEATS_MAX: u32 = 100;
const WRITE_SEATS_MAX: u32 = 10;
/// A seat for telling so many watchers, which takes so long.
const WATCHES_PER_SEAT: usize = 10;
const EVENT_TAKES: Duration = Duration::from_millis(5);
/// No request takes more of its level's nominal seats than this.
const PART_OF_LEVEL: f64 = 0.15;

/// The most seats one request of a level may take.
pub fn seats_max(nominal: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a u32")]
    let part = (f64::from(nominal) * PART_OF_LEVEL).ceil() as u32;
    part.max(1)
}

/// A list, or a watch that asks for its initial events. `single`: it is narrowed to one name.
pub fn list(objects: usize, bytes_each: usize, limit: Option<u64>, single: bool, seats_max: u32) -> Work {
    let objects = if single { 1 } else { objects as u64 };
    let objects = limit.filter(|limit| *limit > 0).map_or(objects, |limit| objects.min(limit));
    let bytes = objects.saturating_mul(bytes_each as u64).min(LIST_BYTES_MAX);
    let seats = u32::try_from(bytes.div_ceil(BYTES_PER_SEAT)).unwrap_or(u32::MAX);
    Work::seats(seats.clamp(1, seats_max.clamp(1, LIST_SEATS_MAX)))
}

/// A write of which `watches` hear: with many of them, seats are held for some time after the answer.
pub fn write(watches: usize, seats_max: u32) -> Work {
    if watches < WATCHES_PER_SEAT {
        return Work::seats(1);
    }
    let wanted = u32::try_from(watches.div_ceil(WATCHES_PER_SEAT)).unwrap_or(u32::MAX);
    let seats = wanted.min(seats_max.clamp(1, WRITE_SEATS_MAX));
    // The same work on fewer seats takes longer.
    let takes = EVENT_TAKES.mul_f64(f64::from(wanted) / f64::from(seats));
    Work { initial_seats: 1, final_seats: seats, additional: takes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_as_wide_as_their_bytes() {
        assert_eq!(list(0, 0, None, false, 37).initial_seats, 1);
        assert_eq!(list(500, 1000, None, false, 37).initial_seats, 5);
        assert_eq!(list(500, 1000, Some(100), false, 37).initial_seats, 1);
        assert_eq!(list(100_000, 5000, None, false, 37).initial_seats, 10);
        assert_eq!(list(100_000, 5000, None, false, 4).initial_seats, 4);
        assert_eq!(list(100_000, 5000, None, true, 37).initial_seats, 1);
    }

    #[test]
    fn writes_that_many_hear_of_go_on_after_their_answer() {
        assert_eq!(write(9, 15), Work::seats(1));
        assert_eq!(write(25, 15), Work { initial_seats: 1, final_seats: 3, additional: Duration::from_millis(5) });
        let narrow = write(1000, 15);
        assert_eq!((narrow.final_seats, narrow.additional), (10, Duration::from_millis(50)));
    }

    #[test]
    fn no_request_takes_a_level_for_itself() {
        assert_eq!([seats_max(0), seats_max(13), seats_max(245)], [1, 2, 37]);
    }
}
