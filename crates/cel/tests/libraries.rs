//! What the extensions and Kubernetes' own functions come to.

use std::sync::{Arc, Mutex};

use cel::library::authorizer::{Answer, Authorizer, Request};
use cel::{Environment, EvalError, PER_CALL_LIMIT, Type, Value};

fn evaluate(text: &str) -> Result<bool, String> {
    let program = Environment::new().compile(text).map_err(|error| error.to_string())?;
    let (value, _) = program.evaluate(&[], PER_CALL_LIMIT).map_err(|error| error.to_string())?;
    value.as_bool().ok_or_else(|| format!("{value:?}"))
}

#[track_caller]
fn all(table: &[&str]) {
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|text| match evaluate(text) {
            Ok(true) => None,
            other => Some(format!("{text}\n    {other:?}")),
        })
        .collect();
    assert!(wrong.is_empty(), "not true:\n{}", wrong.join("\n"));
}

#[track_caller]
fn fail(table: &[(&str, &str)]) {
    for (text, expected) in table {
        match evaluate(text) {
            Err(error) if error.contains(expected) => {}
            other => panic!("{text}\n    wanted {expected}\n    {other:?}"),
        }
    }
}

#[test]
fn strings() {
    all(&[
        "'héllo'.charAt(1) == 'é' && 'abc'.charAt(3) == ''",
        "'héllo'.indexOf('l') == 2 && 'hello'.indexOf('l', 3) == 3 && 'hello'.indexOf('x') == -1 && 'a'.indexOf('') == 0",
        "'hello'.lastIndexOf('l') == 3 && 'hello'.lastIndexOf('l', 2) == 2 && 'hello'.lastIndexOf('') == 5",
        "'ÀBC'.lowerAscii() == 'Àbc' && 'abc'.upperAscii() == 'ABC'",
        "'aXbXc'.replace('X', '-') == 'a-b-c' && 'aXbX'.replace('X', '', 1) == 'abX' && 'ab'.replace('', '_') == '_a_b_'",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'añb'.split('') == ['a', 'ñ', 'b']",
        "'abc'.split(',', 0) == [] && 'abc'.split('', 2) == ['a', 'bc']",
        "'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco' && 'ab'.substring(2) == ''",
        "' \\t a b\\n '.trim() == 'a b' && ['a', 'b'].join() == 'ab' && ['a', 'b'].join('-') == 'a-b' && [].join('x') == ''",
        "'añb'.reverse() == 'bña' && strings.quote('a\"b\\n') == '\"a\\\\\"b\\\\n\"'",
        "'%s is %d, %.2f, %x, %X, %b, %o, %e %%'.format([dyn('a'), 5, 1.5, 255, 'hi', 5, 8, 1234.5]) == 'a is 5, 1.50, ff, 6869, 101, 10, 1.234500e+03 %'",
        "'%s %s %s'.format([dyn([dyn(1), 'a']), {'b': dyn(2), 'a': null}, duration('90s')]) == '[1, a] {a: null, b: 2} 90s'",
        "'abc'.contains('b') && 'abc'.startsWith('') && 'abc'.endsWith('bc') && !'abc'.endsWith('b')",
    ]);
    fail(&[
        ("'abc'.charAt(4) == ''", "index out of range: 4"),
        ("'abc'.substring(2, 1) == ''", "invalid substring range. start: 2, end: 1"),
        ("'abc'.substring(-1) == ''", "index out of range: -1"),
        ("'%d'.format(['a']) == ''", "decimal clause can only be used on integers"),
        ("'%s'.format([]) == ''", "index 0 out of range"),
    ]);
}

#[test]
fn lists_sets_patterns() {
    all(&[
        "[1, 2, 2].isSorted() && !['b', 'a'].isSorted() && [].sum() == 0 && [1, 2].sum() == 3 && [1.5, 2.0].sum() == 3.5",
        "[duration('1s'), duration('2s')].sum() == duration('3s')",
        "[3, 1, 2].min() == 1 && ['a', 'c', 'b'].max() == 'c' && [1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2",
        "[1].indexOf(9) == -1",
        "sets.contains([1, 2, 3], [2, 3]) && !sets.contains([1], [2]) && sets.contains([], [])",
        "sets.equivalent([1, 2, 2], [2, 1]) && sets.intersects([1, 2], [2, 3]) && !sets.intersects([1], [])",
        "'abc123'.find('[0-9]+') == '123' && 'x'.find('[0-9]') == '' && '1 2 3'.findAll('[0-9]') == ['1', '2', '3']",
        "'1 2 3'.findAll('[0-9]', 2) == ['1', '2'] && 'abc'.matches('^a.c$') && matches('abc', 'b') && !'abc'.matches('^b')",
        "['^a', 'c$'].all(p, 'abc'.matches(p))",
    ]);
    fail(&[("dyn([]).min() == 1", "min called on empty list"), ("['('].all(p, 'abc'.matches(p))", "unclosed group")]);
}

#[test]
fn quantities_and_versions() {
    all(&[
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('100m').isLessThan(quantity('1'))",
        "quantity('200M').compareTo(quantity('0.2G')) == 0 && quantity('50M').compareTo(quantity('50Mi')) == -1",
        "quantity('50k').add(20) == quantity('50020') && quantity('50k').sub(quantity('20k')) == quantity('30k')",
        "quantity('50k').asInteger() == 50000 && !quantity('50m').isInteger() && quantity('1.5').asApproximateFloat() == 1.5",
        "isQuantity('1.3Gi') && !isQuantity('200K') && !isQuantity('Three') && sign(quantity('-1')) == -1",
        "!quantity('9999999999999999999999999999999999999G').isInteger()",
        "semver('1.2.3').isGreaterThan(semver('1.2.3-alpha.1')) && semver('1.0.0-alpha.2').isLessThan(semver('1.0.0-alpha.10'))",
        "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3+b').patch() == 3",
        "!isSemver('1.0') && !isSemver('v1.0.0') && isSemver('v1.0', true) && semver('01.02', true) == semver('1.2.0')",
        "!isSemver('1.01.0') && isSemver('1.0.0-0a.x-y+z.1') && !isSemver('1.0.0-') && semver('1.2.3').compareTo(semver('2.0.0')) == -1",
    ]);
    fail(&[
        ("quantity('200K') == quantity('1')", "unable to parse quantity's suffix"),
        ("quantity('1m').asInteger() == 1", "cannot convert value to integer"),
        ("semver('x') == semver('1.0.0')", "No Major.Minor.Patch elements found"),
    ]);
}

#[test]
fn networks() {
    all(&[
        "ip('10.0.0.1').family() == 4 && ip('::1').isLoopback() && ip('169.254.0.1').isLinkLocalUnicast()",
        "ip('0.0.0.0').isUnspecified() && ip('224.0.0.1').isLinkLocalMulticast() && ip('8.8.8.8').isGlobalUnicast()",
        "isIP('::1') && !isIP('::ffff:1.2.3.4') && !isIP('1.2.3') && !isIP('fe80::1%eth0') && !isIP('01.2.3.4')",
        "ip.isCanonical('::1') && !ip.isCanonical('0:0::1') && string(ip('::0')) == '::'",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.0.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').ip() == ip('10.1.2.3')",
        "cidr('::/0').prefixLength() == 0 && cidr('::/0').containsIP('::1') && !cidr('::/0').containsIP('1.1.1.1')",
        "isCIDR('10.0.0.0/32') && !isCIDR('10.0.0.0/33') && !isCIDR('10.0.0.0') && !isCIDR('10.0.0.0/08')",
        "string(cidr('10.0.0.0/8')) == '10.0.0.0/8' && type(ip('::1')) == net.IP",
        "url('https://user@example.com:8080/a%20b?x=1&x=2&y=a+b').getHost() == 'example.com:8080'",
        "url('https://[::1]:80/').getHostname() == '::1' && url('https://[::1]:80/').getPort() == '80'",
        "url('https://e.com/a%20b?x=1&x=2&y=a+b').getQuery() == {'x': ['1', '2'], 'y': ['a b']}",
        "url('https://e.com/a%20b').getEscapedPath() == '/a%20b' && url('/p').getScheme() == '' && url('https://e.com').getPort() == ''",
        "isURL('https://e.com/x') && isURL('/a') && !isURL('e.com/x') && !isURL('../x') && !isURL('https://e.com:x/') && !isURL('')",
    ]);
    fail(&[
        ("ip('x').family() == 4", "parse error during conversion from string"),
        ("cidr('x').prefixLength() == 4", "network address parse error during conversion from string"),
        ("url('x y').getHost() == ''", "URL parse error during conversion from string"),
        ("cidr('10.0.0.0/8').containsIP('x')", "parse error during conversion from string"),
    ]);
}

#[test]
fn formats() {
    all(&[
        "!format.dns1123Label().validate('my-label').hasValue() && format.dns1123Label().validate('My').value().size() == 1",
        "!format.named('dns1123Subdomain').value().validate('a.b').hasValue() && !format.named('nope').hasValue()",
        "format.qualifiedName().validate('a/b/c').hasValue() && !format.labelValue().validate('').hasValue()",
        "!format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue() && format.uuid().validate('x').hasValue()",
        "format.date().validate('2021-02-30').value() == ['invalid date'] && !format.datetime().validate('2021-01-01T00:00:00Z').hasValue()",
        "!format.byte().validate('aGVsbG8=').hasValue() && format.byte().validate('a').value() == ['invalid base64']",
        "!format.uri().validate('http://e.com').hasValue() && format.uri().validate('e').hasValue()",
        "!format.dns1123LabelPrefix().validate('a-').hasValue()",
    ]);
}

#[derive(Debug, Default)]
struct Recording(Mutex<Vec<Request>>);

impl Authorizer for Recording {
    fn check(&self, request: &Request) -> Answer {
        self.0.lock().expect("no test panics while it holds it").push(request.clone());
        let error = (request.verb == "odd").then(|| "cannot tell".to_owned());
        Answer { allowed: request.verb == "get", reason: format!("for {}", request.verb), error }
    }
}

#[test]
fn authorizer() {
    let environment = Environment::new()
        .variable("authorizer", Type::Opaque(cel::Opaque::Authorizer))
        .variable("authorizer.requestResource", Type::Opaque(cel::Opaque::ResourceCheck));
    let recording = Arc::new(Recording::default());
    let asked = Request { resource: "pods".into(), ..Request::default() };
    let variables = [
        ("authorizer", Value::authorizer(recording.clone())),
        ("authorizer.requestResource", Value::resource_check(recording.clone(), asked)),
    ];
    let told = |text: &str| {
        let program = environment.compile(text).unwrap_or_else(|error| panic!("{error}"));
        program.evaluate(&variables, PER_CALL_LIMIT).map(|(value, cost)| (value.as_bool().unwrap(), cost))
    };
    let long = "authorizer.serviceAccount('ns', 'sa').group('apps').resource('deployments').subresource('scale')\
                .namespace('n').name('x').fieldSelector('a=b').labelSelector('c').check('get').allowed()";
    assert_eq!(told(long), Ok((true, 350_010)));
    assert_eq!(
        recording.0.lock().unwrap().pop().unwrap(),
        Request {
            group: "apps".into(),
            resource: "deployments".into(),
            subresource: "scale".into(),
            namespace: "n".into(),
            name: "x".into(),
            verb: "get".into(),
            field_selector: Some("a=b".into()),
            label_selector: Some("c".into()),
            service_account: Some(("ns".into(), "sa".into())),
            path: None,
        }
    );
    assert!(told("!authorizer.path('/healthz').check('post').allowed()").unwrap().0);
    assert!(told("authorizer.requestResource.check('odd').error() == 'cannot tell'").unwrap().0);
    assert!(told("authorizer.requestResource.check('odd').errored()").unwrap().0);
    assert!(told("authorizer.requestResource.check('list').reason() == 'for list'").unwrap().0);
    let three = "[1, 2, 3].all(x, authorizer.path('/x').check('get').allowed())";
    assert_eq!(told(three), Err(EvalError::CostExceeded));
    assert!(
        told("authorizer.path('').check('get').allowed()").unwrap_err().to_string().contains("path must not be empty")
    );
    assert!(environment.compile("authorizer.resource('x')").is_err());
}
