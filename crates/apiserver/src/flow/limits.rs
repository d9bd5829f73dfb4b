//! How the server's seats are shared out among priority levels: nominal limits by shares, and what levels lend and
//! borrow by their demand.
//!
//! Pure.

/// What a priority level's configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Its requests are never held back.
    pub exempt: bool,
    pub shares: u32,
    pub lendable_percent: u32,
    /// `None`: no bound but the server's own.
    pub borrowing_limit_percent: Option<u32>,
}

/// Between what a level's limit moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    pub nominal: u32,
    pub min: u32,
    pub max: u32,
}

/// What a level asked for lately.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Demand {
    pub peak: f64,
    pub smoothed: f64,
}

/// What a level gets.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Allotted {
    pub limit: u32,
    /// What it would get if there were enough.
    pub target: f64,
}

fn seats(number: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let whole = number.clamp(0.0, f64::from(u32::MAX)) as u32;
    whole
}

fn percent(of: u32, percent: u32) -> u32 {
    seats((f64::from(of) * f64::from(percent) / 100.0).round())
}

/// The bounds of each level, of a server with `total` seats.
pub fn bounds(total: u32, shares: &[Share]) -> Vec<Bounds> {
    let sum: f64 = shares.iter().map(|share| f64::from(share.shares)).sum();
    let one = |share: &Share| {
        let part = if sum > 0.0 { f64::from(total) * f64::from(share.shares) / sum } else { 0.0 };
        let nominal = seats(part.ceil());
        let max = match share.borrowing_limit_percent {
            Some(limit) if !share.exempt => nominal.saturating_add(percent(nominal, limit)),
            _ => nominal.saturating_add(total),
        };
        Bounds { nominal, min: nominal.saturating_sub(percent(nominal, share.lendable_percent)), max }
    };
    shares.iter().map(one).collect()
}

/// Shares the seats out anew by demand. The second value is the fair fraction: what every level that is at no bound
/// gets of its target.
pub fn adjust(levels: &[(Share, Bounds, Demand)]) -> (Vec<Allotted>, f64) {
    let mut left: f64 = levels.iter().map(|(_, bounds, _)| f64::from(bounds.nominal)).sum();
    let mut allotted = vec![Allotted::default(); levels.len()];
    let mut items = Vec::new();
    for (at, (share, bounds, demand)) in levels.iter().enumerate() {
        let peak = seats(demand.peak.ceil());
        if share.exempt {
            let limit = bounds.min.max(peak);
            left -= f64::from(limit);
            allotted[at] = Allotted { limit, target: f64::from(limit) };
        } else {
            let low = f64::from(bounds.min.max(bounds.nominal.min(peak)));
            let target = low.max(demand.smoothed);
            allotted[at].target = target;
            items.push((at, Item { low, floor: f64::from(bounds.min), high: f64::from(bounds.max), target }));
        }
    }
    let problem: Vec<Item> = items.iter().map(|(_, item)| *item).collect();
    let (given, fraction) = allocate(left.max(0.0), &problem);
    for ((at, _), given) in items.iter().zip(given) {
        allotted[*at].limit = seats(given.round());
    }
    (allotted, fraction)
}

#[derive(Debug, Clone, Copy)]
struct Item {
    /// What it wants at the least.
    low: f64,
    /// What it never goes below.
    floor: f64,
    high: f64,
    target: f64,
}

/// Targets below this are treated as this.
const TARGET_MIN: f64 = 0.001;

/// Gives every item the same fraction of its target, within its bounds, so that all together get `sum`. Where even the
/// lows are too much, what is above the floors is cut evenly.
fn allocate(sum: f64, items: &[Item]) -> (Vec<f64>, f64) {
    let (floors, lows): (f64, f64) =
        items.iter().fold((0.0, 0.0), |(floors, lows), item| (floors + item.floor, lows + item.low));
    if sum <= floors {
        return (items.iter().map(|item| item.floor).collect(), 0.0);
    }
    if sum <= lows {
        let part = (sum - floors) / (lows - floors);
        return (items.iter().map(|item| item.floor + part * (item.low - item.floor)).collect(), 0.0);
    }
    let target = |item: &Item| item.target.max(TARGET_MIN);
    let at = |fraction: f64| -> Vec<f64> {
        items.iter().map(|item| (fraction * target(item)).clamp(item.low, item.high.max(item.low))).collect()
    };
    let total = |fraction: f64| at(fraction).iter().sum::<f64>();
    // The sum grows with the fraction, straight between any two of these.
    let mut corners: Vec<f64> =
        items.iter().flat_map(|item| [item.low / target(item), item.high / target(item)]).collect();
    corners.sort_by(f64::total_cmp);
    let mut before = 0.0;
    for corner in corners {
        let (low, high) = (total(before), total(corner));
        if high >= sum {
            let fraction = if high > low { before + (corner - before) * (sum - low) / (high - low) } else { corner };
            return (at(fraction), fraction);
        }
        before = corner;
    }
    (at(before), before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(shares: u32, lendable_percent: u32) -> Share {
        Share { exempt: false, shares, lendable_percent, borrowing_limit_percent: None }
    }

    fn nominal(bounds: &[Bounds]) -> Vec<u32> {
        bounds.iter().map(|bounds| bounds.nominal).collect()
    }

    #[test]
    fn upstreams_defaults_get_upstreams_seats() {
        // exempt, system, node-high, leader-election, workload-high, workload-low, global-default, catch-all
        let exempt = Share { exempt: true, ..share(0, 0) };
        let own = [
            exempt,
            share(30, 33),
            share(40, 25),
            share(10, 0),
            share(40, 50),
            share(100, 90),
            share(20, 50),
            share(5, 0),
        ];
        let all = bounds(600, &own);
        assert_eq!(nominal(&all), [0, 74, 98, 25, 98, 245, 49, 13]);
        assert_eq!(all.iter().map(|bounds| bounds.min).collect::<Vec<_>>(), [0, 50, 73, 25, 49, 24, 24, 13]);
        assert_eq!(all[7].max, 613);
    }

    #[test]
    fn borrowing_is_bounded() {
        let own = [Share { borrowing_limit_percent: Some(50), ..share(1, 0) }, share(1, 100)];
        let all = bounds(100, &own);
        assert_eq!(
            (all[0], all[1]),
            (Bounds { nominal: 50, min: 50, max: 75 }, Bounds { nominal: 50, min: 0, max: 150 })
        );
        let idle = Demand::default();
        let busy = Demand { peak: 200.0, smoothed: 200.0 };
        let (given, _) = adjust(&[(own[0], all[0], busy), (own[1], all[1], idle)]);
        assert_eq!((given[0].limit, given[1].limit), (75, 25));
    }

    #[test]
    fn the_idle_lend_and_the_busy_borrow() {
        let own = [share(30, 50), share(30, 50), share(40, 0)];
        let all = bounds(100, &own);
        let idle = Demand::default();
        let busy = Demand { peak: 90.0, smoothed: 80.0 };
        let levels = [(own[0], all[0], busy), (own[1], all[1], idle), (own[2], all[2], idle)];
        let (given, _) = adjust(&levels);
        assert_eq!(given.iter().map(|given| given.limit).collect::<Vec<_>>(), [45, 15, 40]);
        let levels = [(own[0], all[0], busy), (own[1], all[1], busy), (own[2], all[2], busy)];
        let (given, _) = adjust(&levels);
        assert_eq!(given.iter().map(|given| given.limit).collect::<Vec<_>>(), [30, 30, 40]);
    }

    #[test]
    fn all_that_is_idle_gets_its_share() {
        let own = [share(30, 50), share(70, 50)];
        let all = bounds(100, &own);
        let (given, _) = adjust(&[(own[0], all[0], Demand::default()), (own[1], all[1], Demand::default())]);
        assert_eq!(given.iter().map(|given| given.limit).sum::<u32>(), 100);
    }

    #[test]
    fn what_is_exempt_takes_from_the_others() {
        let exempt = Share { exempt: true, ..share(0, 0) };
        let own = [exempt, share(1, 50)];
        let all = bounds(100, &own);
        let busy = Demand { peak: 30.0, smoothed: 30.0 };
        let (given, _) = adjust(&[(own[0], all[0], busy), (own[1], all[1], Demand { peak: 100.0, smoothed: 100.0 })]);
        assert_eq!((given[0].limit, given[1].limit), (30, 70));
    }
}
