//! Printer columns: what `kubectl get` shows of an object.

use api::Timestamp;
use api::table::ColumnDefinition;
use serde_json::Value;

/// One column over objects of type `T`. The cell is a function of the object and the time.
pub struct Column<T: 'static> {
    pub name: &'static str,
    /// `string`, `integer` or `date`.
    pub type_: &'static str,
    pub format: &'static str,
    pub description: &'static str,
    /// 0 always, 1 with `-o wide`.
    pub priority: i32,
    pub cell: fn(&T, Timestamp) -> Value,
}

impl<T: api::Typed> Column<T> {
    /// The first column of every table.
    pub const fn name() -> Self {
        Self {
            name: "Name",
            type_: "string",
            format: "name",
            description: "Name must be unique within a namespace. Needed to create, read and delete the object.",
            priority: 0,
            cell: |object, _| Value::from(object.name()),
        }
    }

    /// Time since creation, as `5m` or `3d4h`.
    pub const fn age() -> Self {
        Self {
            name: "Age",
            type_: "string",
            format: "",
            description: "Time since the object was created.",
            priority: 0,
            cell: |object, now| Value::from(age(object.metadata().creation_timestamp.as_ref().map(|t| t.0), now)),
        }
    }

    /// When the object was made, for kinds without columns of their own.
    pub const fn created_at() -> Self {
        Self {
            name: "Created At",
            type_: "date",
            format: "",
            description: "When the object was created.",
            priority: 0,
            cell: |object, _| {
                let created = object.metadata().creation_timestamp.as_ref();
                created.map_or(Value::Null, |created| Value::from(created.0.to_string()))
            },
        }
    }

    /// A column of text or numbers.
    pub const fn new(name: &'static str, type_: &'static str, cell: fn(&T, Timestamp) -> Value) -> Self {
        Self { name, type_, format: "", description: "", priority: 0, cell }
    }

    /// Shown with `-o wide` only.
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    /// With that description.
    pub const fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// The column as it goes on the wire.
    pub fn definition(&self) -> ColumnDefinition {
        ColumnDefinition {
            name: self.name.to_owned(),
            type_: self.type_.to_owned(),
            format: self.format.to_owned(),
            description: self.description.to_owned(),
            priority: self.priority,
        }
    }
}

/// The time since `then` in kubectl's words; `<unknown>` without one.
pub fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "<unknown>".to_owned(), |then| human_duration(now.duration_since(then).as_secs()))
}

/// The first few of many, joined: `a,b,c + 2 more...`.
pub fn some_of(all: &[String], shown_max: usize) -> String {
    let shown = all.iter().take(shown_max).cloned().collect::<Vec<_>>().join(",");
    match all.len().checked_sub(shown_max) {
        Some(more) if more > 0 => format!("{shown} + {more} more..."),
        _ => shown,
    }
}

/// Seconds as upstream's `duration.HumanDuration`: two units at most, fewer as the span grows.
pub fn human_duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let with = |major: i64, unit: &str, minor: i64, minor_unit: &str| {
        if minor == 0 { format!("{major}{unit}") } else { format!("{major}{unit}{minor}{minor_unit}") }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => with(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => with(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => with(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => with(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::human_duration;

    #[test]
    fn spans_are_shown_as_kubectl_shows_them() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (86_400, "24h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (700_000, "8d"),
            (-5, "<invalid>"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text, "{seconds} s");
        }
    }
}
