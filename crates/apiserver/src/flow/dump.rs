//! The debug pages of flow control: what waits and what runs, as tables of comma-separated cells.

use super::Flow;
use super::level::{About, View};

const LEVELS: [&str; 6] =
    ["PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests"];
const QUEUES: [&str; 9] = [
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];
/// One of them is misspelt for ever: programs read it.
const REQUESTS: [&str; 9] = [
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
];
const DETAILS: [&str; 8] =
    ["UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource"];

/// The page at a path below `/debug/api_priority_and_fairness/`, if there is one.
pub fn page(flow: &Flow, path: &str, details: bool) -> Option<String> {
    let views: Vec<(String, bool, View)> =
        flow.levels().into_iter().map(|(level, quiescing)| (level.name.clone(), quiescing, level.view())).collect();
    let rows = match path {
        "dump_priority_levels" => levels(&views),
        "dump_queues" => queues(&views),
        "dump_requests" => requests(&views, details),
        _ => return None,
    };
    Some(align(&rows))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn nothing(name: &str, cells: usize) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(std::iter::repeat_n("<none>".to_owned(), cells - 1)).collect()
}

fn levels(views: &[(String, bool, View)]) -> Vec<Vec<String>> {
    let mut rows = vec![words(&LEVELS)];
    rows.extend(views.iter().map(|(name, quiescing, view)| {
        if view.exempt {
            return nothing(name, LEVELS.len());
        }
        let active = view.queues.iter().filter(|queue| queue.waiting > 0).count();
        vec![
            name.clone(),
            active.to_string(),
            view.idle.to_string(),
            quiescing.to_string(),
            view.waiting.to_string(),
            view.executing.to_string(),
        ]
    }));
    rows
}

fn queues(views: &[(String, bool, View)]) -> Vec<Vec<String>> {
    let mut rows = vec![words(&QUEUES)];
    for (name, _, view) in views {
        if view.exempt {
            rows.push(nothing(name, QUEUES.len()));
        }
        rows.extend(view.queues.iter().enumerate().map(|(index, queue)| {
            vec![
                name.clone(),
                index.to_string(),
                queue.waiting.to_string(),
                queue.executing.to_string(),
                queue.seats_in_use.to_string(),
                format!("{:.8}ss", queue.next_dispatch_r),
                queue.initial_seats_sum.to_string(),
                queue.max_seats_sum.to_string(),
                format!("{:.8}ss", queue.work_sum),
            ]
        }));
    }
    rows
}

fn requests(views: &[(String, bool, View)], details: bool) -> Vec<Vec<String>> {
    let mut head = words(&REQUESTS);
    if details {
        head.extend(words(&DETAILS));
    }
    let mut rows = vec![head];
    for (name, _, view) in views.iter().filter(|(_, _, view)| !view.exempt) {
        rows.extend(view.requests.iter().map(|(queue, at, about, work)| {
            let About { schema, flow, arrived, .. } = about;
            let mut row = vec![
                name.clone(),
                schema.clone(),
                queue.to_string(),
                at.to_string(),
                flow.clone(),
                arrived.to_string(),
                work.initial_seats.to_string(),
                work.final_seats.to_string(),
                format!("{:?}", work.additional),
            ];
            if details {
                let more = [&about.user, &about.verb, &about.path, &about.namespace, &about.name, &about.api_version];
                row.extend(more.into_iter().chain([&about.resource, &about.subresource]).cloned());
            }
            row
        }));
    }
    rows
}

/// Cells end in a comma but for the last, and stand in columns at least eight wide.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count() + 2).max().unwrap_or(0).max(8)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            if at + 1 == row.len() {
                text.push_str(cell);
            } else {
                let cell = format!("{cell},");
                text.push_str(&format!("{cell:<width$}", width = widths[at]));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [words(&["Name", "Index", "Rest"]), words(&["a-long-name", "1", "x"])];
        assert_eq!(align(&rows), "Name,        Index,  Rest\na-long-name, 1,      x\n");
    }
}
