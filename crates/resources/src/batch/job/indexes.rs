//! Sets of completion indexes in their text form: `1,3-5,7`.

/// The number of indexes in a text; every index is below `completions`, and they increase.
///
/// # Errors
/// What is wrong with the text, in upstream's words.
pub fn count(text: &str, completions: i32) -> Result<i32, String> {
    let (mut total, mut last) = (0_i32, None);
    if text.is_empty() {
        return Ok(0);
    }
    for part in text.split(',') {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last
            && last >= first
        {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total = total.saturating_add(end.saturating_sub(first).saturating_add(1));
        last = Some(end);
    }
    Ok(total)
}

/// The lowest index that two texts have in common; parts that cannot be read are passed over.
pub fn overlap(a: &str, b: &str, completions: i32) -> Option<i32> {
    let parse = |text: &str| -> Vec<(i32, i32)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (a, b) = (parse(a), parse(b));
    let (mut at, mut other) = (a.iter().peekable(), b.iter().peekable());
    while let (Some((a_first, a_last)), Some((b_first, b_last))) = (at.peek(), other.peek()) {
        if a_first <= b_last && b_first <= a_last {
            return Some(*a_first.max(b_first));
        }
        if a_first <= b_first {
            at.next();
        } else {
            other.next();
        }
    }
    None
}

fn interval(part: &str, completions: i32) -> Result<(i32, i32), String> {
    let limits: Vec<&str> = part.split('-').collect();
    if limits.len() > 2 {
        return Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts \
             separated by '-'"
        ));
    }
    let number = |text: &str| -> Result<i32, String> {
        let number: i64 = text.parse().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= i64::from(completions) {
            return Err(format!("too large index: {text:?}"));
        }
        i32::try_from(number).map_err(|_| format!("cannot convert string to integer for index: {text:?}"))
    };
    let first = number(limits[0])?;
    let Some(last) = limits.get(1) else { return Ok((first, first)) };
    let last = number(last)?;
    if first >= last {
        return Err(format!("non-increasing order, previous: {first}, current: {last}"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::{count, overlap};

    #[test]
    fn indexes_are_counted_or_refused_in_upstreams_words() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("1,3-5,7", 8), Ok(5));
        let cases = [
            ("1,x", "cannot convert string to integer for index: \"x\""),
            ("", ""),
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two \
                       parts separated by '-'",
            ),
            ("8", "too large index: \"8\""),
            ("1-8", "too large index: \"8\""),
            ("3-3", "non-increasing order, previous: 3, current: 3"),
            ("3,2", "non-increasing order, previous: 3, current: 2"),
        ];
        for (text, error) in cases {
            assert_eq!(count(text, 8).err().unwrap_or_default(), error, "{text}");
        }
    }

    #[test]
    fn common_indexes_are_found() {
        assert_eq!(overlap("0-2,5", "3-4,6", 8), None);
        assert_eq!(overlap("0-2,5-7", "3,6", 8), Some(6));
        assert_eq!(overlap("", "1", 8), None);
    }
}
