use super::{load, problems};

#[test]
fn webhooks_are_resolved_with_their_keys() {
    let text = r#"
        [namespaces.billing]
        request = ["authenticated"]
        [webhooks.billing]
        addresses = ["billing:quote", "billing:invoice:**", "shop:*"]
        url = "http://127.0.0.1:9000/ask"
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "#;
    let config = load(text).unwrap();
    let [webhook] = &*config.webhooks else { panic!("{:?}", config.webhooks) };
    assert_eq!((webhook.addresses.len(), webhook.keys.len()), (3, 2));
    let warnings = config.warnings();
    assert!(warnings.iter().any(|text| text.contains("requests to shop:*")), "{warnings:?}");
    assert!(!warnings.iter().any(|text| text.contains("billing:quote")), "{warnings:?}");
}

#[test]
fn a_webhook_is_signed_and_encrypted_unless_it_is_said_otherwise() {
    let secret = "secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'";
    let webhook = |rest: &str| format!("[webhooks.a]\naddresses = ['a:*']\n{rest}\n");
    for (rest, wanted) in [
        ("url = 'https://a'", "or `unsigned = true`"),
        ("url = 'https://a'\nsecret = 'short'", "whsec_"),
        ("url = 'https://a'\nsecret = ''", "it is empty"),
        ("unsigned = true", "write where requests are posted"),
        ("url = 'http://a'\nunsigned = true", "`allow_http = true`"),
        ("url = 'ftp://a'\nunsigned = true", "write an https URL"),
        ("url = 'https://me:pw@a'\nunsigned = true", "leave user and password out"),
        ("url = 'https://a'\nunsigned = true\nin_flight = 0", "at least 1"),
        ("url = 'https://a'\nunsigned = true\ntimeout = '0s'", "above zero"),
        (&format!("url = 'https://a'\nunsigned = true\n{secret}"), "or `unsigned`"),
    ] {
        let found = problems(&webhook(rest)).join("\n");
        assert!(found.contains(wanted) && !found.contains("pw"), "{rest}\n{found}");
    }
    let good = [
        "url = 'https://a'\nunsigned = true",
        "url = 'http://a'\nunsigned = true\nallow_http = true",
        "url = 'http://localhost:1'\nunsigned = true",
        &format!("url = 'https://a'\n{secret}"),
    ];
    for rest in good {
        assert!(load(&webhook(rest)).is_ok(), "{rest}");
    }
    let two = "\n[webhooks.b]\naddresses = ['a:b']\nurl = 'https://b'\nunsigned = true";
    let found = problems(&(webhook(good[0]) + two));
    assert!(found[0].contains("addresses of webhooks.a too"), "{found:?}");
}
