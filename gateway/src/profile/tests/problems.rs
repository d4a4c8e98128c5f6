use super::*;

fn problems(text: &str) -> String {
    Profile::parse(text, "p.toml").err().map(|errors| errors.to_string()).unwrap_or_default()
}

#[test]
fn mistakes_are_shown_with_their_line_and_what_to_write() {
    for (text, line, wanted) in [
        ("[faces.f]\nverb = 1", 2, "did you mean `verbs`?"),
        ("[faces.f.verbs.go]\ndo = [{ jion = 'a:b' }]", 2, "did you mean `join`?"),
        ("[faces.f.verbs.go]\ndo = [{ join = 'a:{screen}' }]", 2, "double braces"),
        ("[faces.f.verbs.go]\ndo = [{ join = 'a:{{ screen }}' }]", 2, "perhaps `data.screen`"),
        ("[faces.f.verbs.go]\ndo = [{ join = 'a:{{ dat.x }}' }]", 2, "did you mean `data`?"),
        ("[faces.f.verbs.go]\ndo = [{ join = 'a:{{ data' }]", 2, "has no `}}`"),
        ("[faces.f.verbs.go]\ndo = [{ join = ':{{ data }}' }]", 2, "no channel name"),
        ("[faces.f.verbs.go]\ndo = [{ emit = 'a', echo = true }]", 2, "means nothing for `emit`"),
        ("[faces.f.verbs.go]\ndo = [{ emit = 'a', join = 'b' }]", 2, "exactly one of"),
        ("[faces.f.verbs.go]\ndo = [{ stats = true }]", 2, "only possible in [[rest]]"),
        ("[faces.f.verbs.go]\ndo = [{ publish = 'a:*' }]", 2, "not to a pattern"),
        ("[faces.f.verbs.go]\ndo = [{ call = 'a:b' }, { call = 'a:c' }]", 2, "has one `call`"),
        ("[faces.f.verbs.go]\nrate = '10'", 2, "\"10/s\""),
        ("[faces.f.verbs.go]\nrequire = ['granted']", 2, "there is no channel here"),
        ("[faces.f.verbs.go]\ndo = [{ emit = 'a', data = [\n'{{ 1 + }}'] }]", 3, "do[0].data[0]"),
        ("[faces.f.verbs.go]\nack = '{{ data * 9 }}'", 2, "leave out `*`"),
        ("[faces.f.verbs.go]\nack = '{{ data | upper }}'", 2, "no filter `upper`"),
        ("[faces.f.verbs.go]\nack = '{{ data is odd }}'", 2, "no test `odd`"),
        ("[faces.f.verbs.go]\nack = '{{ range(9) }}'", 2, "no functions"),
        ("[faces.f.verbs.go]\nack = '{{ data.x() }}'", 2, "no functions"),
        ("[faces.f.verbs.go]\nack = '{% if a %}'", 2, "no statements"),
        ("[faces.f.verbs.go]\nack = '{{ reply }}'", 2, "there is no `reply` here"),
        ("[[socketio]]\npaths = ['/a']\nnamespaces = { '/' = 'f' }", 3, "[faces.f]"),
        ("[[socketio]]\npaths = ['a']\nnamespaces = {}", 2, "write a path such as"),
        ("[[websocket]]\npaths = ['/a', '/a/']", 2, "there already"),
        ("[[websocket]]\npaths = ['/v1/sse']", 2, "the gateway itself answers"),
        ("[[socketio]]\npaths = ['/']", 2, "a path of its own"),
        ("[[socketio]]\npaths = ['/a']\n[[socketio]]\npaths = ['/a/']", 4, "serves /a already"),
        ("[[websocket]]\npaths = ['/a']\ndialect = 'morse'", 3, "native"),
        ("[[faces.f.outgoing]]\nchannel = 'a:{data}'\nemit = 'e'", 2, "choose another name"),
        ("[[faces.f.outgoing]]\nchannel = 'a:*'\nemit = 'e'\ndata = '{{ user }}'", 4, "no `user`"),
        ("[faces.f.auth]\ntoken = ['cookie']", 2, "header.NAME"),
        ("[[rest]]\nmethod = 'PATCH'\npath = '/a'", 2, "GET, POST"),
        ("[[rest]]\nmethod = 'GET'\npath = '/a/{b'", 3, "has a name"),
        ("[[rest]]\nmethod = 'GET'\npath = '/v1/publish'", 3, "the gateway itself answers"),
        ("[[rest]]\nmethod = 'GET'\npath = '/a'\ndo = [{ call = 'a:b' }]", 4, "has no connection"),
        (
            "[[rest]]\nmethod = 'GET'\npath = '/a'\ncaller = 'client'\ndo = [{ stats = true }]",
            5,
            "leave out `caller`",
        ),
        (
            "[[rest]]\nmethod = 'GET'\npath = '/{a}'\n\n[[rest]]\nmethod = 'GET'\npath = '/{b}'",
            5,
            "answered already",
        ),
        (
            "[[rest]]\nmethod = 'GET'\npath = '/a'\ncaller = 'client'\ndo = [{ ticket = 'u' }]",
            5,
            "leave out `caller`",
        ),
        ("[[websocket]]\npaths = ['/a']\ndialect = 'envelope'", 1, "which face"),
        ("[[websocket]]\npaths = ['/a']\ndialect = 'envelope'\nface = 'f'", 4, "[faces.f]"),
        (
            "[faces.f]\n[[websocket]]\npaths = ['/a']\ndialect = 'envelope'\nface = 'f'\n\
             [[websocket]]\npaths = ['/b', '/a/']\ndialect = 'envelope'\nface = 'f'",
            7,
            "another face",
        ),
        ("[[websocket]]\npaths = ['/a']\nface = 'f'", 3, "commands of its own"),
        ("[faces.f.auth]\napi_key = ['key']", 2, "header.NAME"),
        ("config = 1", 1, "write a table"),
        ("[faces.f\n", 1, ""),
    ] {
        let found = problems(text);
        assert!(found.contains(&format!("p.toml:{line}")), "{text}\n{found}");
        assert!(found.contains(wanted), "{text}\n{found}");
    }
}

#[test]
fn all_mistakes_are_shown_at_once() {
    let found = problems("[faces.f.verbs.go]\nrate = 'x'\nack = '{{ a }}'\nextra = 1");
    assert_eq!(found.lines().count(), 3, "{found}");
}

#[test]
fn a_face_that_nobody_comes_to_is_told() {
    let mounted = "[[socketio]]\npaths = ['/a']\nnamespaces = { '/' = 'f' }\n[faces.f]\n";
    let warnings = |text: &str| Profile::parse(text, "p.toml").unwrap().warnings();
    assert_eq!(warnings(mounted), [""; 0]);
    let warnings = warnings(&format!("{mounted}[faces.g]\n"));
    assert!(warnings.len() == 1 && warnings[0].contains("faces.g"), "{warnings:?}");
}

#[test]
fn a_profile_says_what_it_does() {
    let told = shipped("config-push.toml").to_string();
    for line in [
        "socketio   /config-socket /socket.io: / → config, /config-socket → config",
        "  subscribe_to_screen: join",
        "  message of screen:*: config_update",
        "rest       POST /api/config/test-broadcast: publish",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let told = shipped("enterprise-push.toml").to_string();
    assert!(told.contains("websocket  / /ws: envelope → push"), "{told}");
    let told = shipped("venues.toml").to_string();
    assert!(told.contains("websocket  /ws: native"), "{told}");
}

#[test]
fn the_example_of_the_documentation_is_good() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/profiles.md");
    let text = std::fs::read_to_string(file).unwrap();
    let (_, rest) = text.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    assert_eq!(problems(example), "");
}

#[test]
fn the_documentation_names_all_filters_tests_and_parts() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/profiles.md");
    let text = std::fs::read_to_string(file).unwrap();
    let schema = crate::config::schema::generate_for::<raw::RawProfile>();
    let schema = crate::config::schema::Schema::new(&schema);
    let mut words: Vec<String> = schema.names().map(str::to_owned).collect();
    words.extend(template::words().map(str::to_owned));
    for word in &words {
        assert!(text.contains(word.as_str()), "docs/profiles.md does not name `{word}`");
    }
}
