"""The sanitizer's rules, in the order they apply: what a value looks like, and what stands in its place.

A rule keeps the context it captures: `${1}{}${2}` frames the placeholder `{}`. Patterns are Rust regexes, which run
in linear time, with ASCII classes. Every example is a test: the first text becomes the second.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.anonymize.checksums import find_card, find_iban, find_opaque, find_prefixed, find_told

B = r"(?-u:\b)"
"""The edge of a word, in ASCII."""
KEEP = "\ue000"
"""Put in front of a value, it tells later rules that the value is harmless."""
PRIVATE = r"\x{E000}-\x{F8FF}"
"""Code points that stand for placeholders while rules run: no value may contain one."""

Example = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of value: how it is found, what replaces it, and texts it was made for."""

    name: str
    pattern: str
    placeholder: str
    example: Example
    frame: str = "{}"
    gate: str | None = None
    """Simpler than the pattern, and found wherever that is and `find` picks something. One that rules of a stage share
    is looked for once: it finds neither placeholders nor the edges of words, so that no rule can bring it about."""
    also: str | None = None
    """A second gate, looked for where the first was found."""
    find: Callable[[str], str | None] | None = None
    """Picks the value out of what the pattern found, or none."""
    needs: tuple[str, ...] = ()
    """What must be found in it, each, before `find` is asked."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Rules that share cheap tests: a text in which no pattern of `gates` is found is left alone by all of them."""

    name: str
    gates: tuple[str, ...]
    rules: tuple[Rule, ...]
    also: tuple[str, ...] = ()
    """The same, but found in most texts, and so looked for last."""


def _token(vendor: str, pattern: str, sample: str, gate: str | None = None) -> Rule:
    """Build the rule of a credential that its shape gives away. To its gate a long run is any run."""
    placeholder = f"<secret:{vendor}>"
    example = (f"key {sample}, bad", f"key {placeholder}, bad")
    loose = re.sub(r"\{[0-9]{2,}(?:,[0-9]*)?\}", "{3,}", pattern)
    return Rule(vendor, f"{B}(?:{pattern})", placeholder, example, gate=gate or f"{B}(?:{loose})")


_BLOCKS = (
    Rule(
        "private_key",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----",
        "<secret:private_key>",
        (
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----\nb",
            "a\n<secret:private_key>\nb",
        ),
    ),
    Rule(
        "private_key_cut_off",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=\s\\]|[A-Za-z-]+: )*",
        "<secret:private_key>",
        ("a -----BEGIN PRIVATE KEY-----\nMIIabc+/=", "a <secret:private_key>"),
    ),
    Rule(
        "putty_key",
        r"(Private-Lines: [0-9]+\s+)[A-Za-z0-9+/=][A-Za-z0-9+/=\s]*",
        "<secret:private_key>",
        ("Private-Lines: 1\nAAAAB3Nz\n", "Private-Lines: 1\n<secret:private_key>"),
        frame="${1}{}",
    ),
)

ESCAPED = (
    r"((?:\x1b|\\(?:[uU]001[bB]|x1[bB]|033|e))\[[0-9;]*[A-Za-z]|\\(?:[nrt]|[uU]00(?:0[0-9A-Fa-f]|2[0267]|3[c-eC-E])))"
)
"""What ends in a letter or a digit and yet is no part of the word that follows: colours, escaped line ends and quotes.
While rules run, an escape character stands behind it, which is neither a letter nor a placeholder."""
_ESCAPES = (
    Rule(
        "after_escape",
        ESCAPED,
        KEEP,
        ('{"out": "x\\n/home/annb/src"} \x1b[31m10.1.2.3', '{"out": "x\\n/home/<user>/src"} \x1b[31m10.1.2.x'),
        frame="${1}\x1b",
    ),
)
_DATABASE_URL = (
    r"(?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|amqps?|mssql|snowflake|clickhouse|s?ftp)(?:\+[a-z0-9_]+)?://"
)
_URLS = (
    Rule(
        "harmless_credentials",
        r"(://[^\s/?@:'\"<>`]*:)(\$\{[A-Za-z_][A-Za-z0-9_]*\}@|\$[A-Z_][A-Z0-9_]*@|\*\*\*+@)",
        KEEP,
        ("https://app:${DB_TOKEN}@db and https://app:***@db", "https://app:${DB_TOKEN}@db and https://app:***@db"),
        frame="${1}{}${2}",
        gate=r":(?:\$|\*\*\*)",
    ),
    Rule(
        "url_credentials",
        rf"(?i){B}([a-z][a-z0-9+.-]*://)[^\s/?@'\"<>`{PRIVATE}]*:[^\s/?'\"<>`{PRIVATE}]*@",
        "<credentials>",
        ("postgres://app:pa#ss@db/prod", "postgres://<credentials>@db/prod"),
        frame="${1}{}@",
    ),
    Rule(
        "database_url",
        rf"(?i){B}({_DATABASE_URL})"
        rf"[^\s/:@'\"<>`{PRIVATE}]*:[^\s@'\"<>`{PRIVATE}]+@",
        "<credentials>",
        ("mysql://app:a/b?c@db/prod", "mysql://<credentials>@db/prod"),
        frame="${1}{}@",
    ),
    Rule(
        "database_url_rest",
        rf"(?i)({_DATABASE_URL}[{PRIVATE}]@)[^\s@'\"<>`{PRIVATE}]*@([a-z0-9.-]+[:/])",
        KEEP,
        ("mysql://app:a@b/c@db/prod", "mysql://<credentials>@db/prod"),
        frame="${1}${2}",
        gate=r"@[^\s@]*@",
    ),
)

_ORACLE = (
    Rule(
        "oracle_url",
        rf"(?i)(jdbc:oracle:[a-z]+:)[^\s/@'\"{PRIVATE}]+/[^\s@'\"{PRIVATE}]+@",
        "<credentials>",
        ("jdbc:oracle:thin:app/pw1@db:1521:x", "jdbc:oracle:thin:<credentials>@db:1521:x"),
        frame="${1}{}@",
    ),
)

_TOKEN_URLS = (
    Rule(
        "harmless_url_user",
        r"(?i)((?:ssh|https?)://)((?:git|oauth2|x-access-token)@)",
        KEEP,
        ("ssh://git@git.example/a/b", "ssh://git@git.example/a/b"),
        frame="${1}{}${2}",
    ),
    Rule(
        "url_user",
        r"(?i)((?:s?ftp|ssh|scp|smb|rsync|postgres(?:ql)?|mysql|mongodb(?:\+srv)?|amqps?|ldaps?|imaps?|smtps?)://)"
        rf"[^\s/?@:'\"<>`{PRIVATE}]+@",
        "<user>",
        ("sftp://annb@files.example/x", "sftp://<user>@files.example/x"),
        frame="${1}{}@",
    ),
    Rule(
        "url_token",
        rf"(?i){B}(https?://)[^\s/?@:'\"<>`{PRIVATE}]{{8,}}@",
        "<credentials>",
        ("https://x0token123@git.example/r", "https://<credentials>@git.example/r"),
        frame="${1}{}@",
    ),
    Rule(
        "webhook",
        r"(?i)(https://(?:hooks\.slack\.com/(?:services|workflows|triggers|commands)/|(?:[a-z]+\.)?discord(?:app)?\.com/api/webhooks/"
        r"|[a-z0-9-]+\.webhook\.office\.com/webhookb2/|hooks\.zapier\.com/hooks/catch/"
        r"|outlook\.office(?:365)?\.com/webhook/|maker\.ifttt\.com/(?:trigger/[^\s/]+/(?:json/)?with/key|use)/"
        r"|hook\.(?:[a-z0-9]+\.)?make\.com/|webhook\.site/|open\.(?:feishu\.cn|larksuite\.com)/open-apis/bot/v2/hook/"
        r"|events\.pagerduty\.com/integration/|[a-z0-9-]+\.m\.pipedream\.net/"
        r"|chat\.googleapis\.com/v1/spaces/))[A-Za-z0-9_/@%.~:?=&+-]+",
        "<secret:webhook>",
        ("https://hooks.slack.com/services/T0/B0/abc gone", "https://hooks.slack.com/services/<secret:webhook> gone"),
        frame="${1}{}",
    ),
    Rule(
        "telegram_bot",
        rf"(?i)(https?://api\.telegram\.org/(?:file/)?bot)[^\s/?'\"<>`{PRIVATE}]+",
        "<secret:telegram>",
        ("https://api.telegram.org/bot1:a1/getMe 401", "https://api.telegram.org/bot<secret:telegram>/getMe 401"),
        frame="${1}{}",
    ),
)

_QUERIES = (
    Rule(
        "query_secret",
        r"(?i)((?:[?&]|&amp;)(?:[a-z0-9_.-]*(?:token|secret|passw(?:or)?d|pwd|api[_-]?key|signature|credential)|key|auth|sig|code|pass)=)"
        rf"[^&#\s'\"<>`;{PRIVATE}]+",
        "<secret>",
        ("GET /v1?key=abc123&page=2", "GET /v1?key=<secret>&page=2"),
        frame="${1}{}",
    ),
)

_VENDORS = (
    _token("anthropic", r"sk-ant-[A-Za-z0-9_-]{16,}", "sk-ant-" + "api03-" + "a1B2" * 8),
    _token("openrouter", r"sk-or-[A-Za-z0-9_-]{16,}", "sk-or-" + "v1-" + "a1b2" * 8),
    _token("langfuse", r"[sp]k-lf-[A-Za-z0-9-]{16,}", "sk-lf-" + "0a1b2c3d-" * 4),
    _token("openai", r"sk-[A-Za-z0-9_-]{20,}", "sk-" + "proj-" + "a1B2" * 8),
    _token("stripe", r"[srp]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{20,}", "sk_" + "live_" + "a1B2" * 6),
    _token("github", r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}", "gh" + "p_" + "a1B2" * 9),
    _token(
        "gitlab", r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat|ffct)-[A-Za-z0-9_.-]{16,}", "gl" + "pat-" + "a1B2" * 5
    ),
    _token("aws", r"(?:AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{16}", "AK" + "IA" + "A2B3" * 4),
    _token(
        "google",
        r"AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_.-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}|1//0[A-Za-z0-9_-]{20,}",
        "AI" + "za" + "a1B2" * 9,
    ),
    _token("azure", r"[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,}", "ab1" + "8Q~" + "a1B2" * 8, gate=r"[0-9]Q~"),
    _token("slack", r"xox[abcdeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}", "xo" + "xb-" + "12345-" * 3 + "aB1"),
    _token("huggingface", r"hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}", "hf" + "_" + "a1B2" * 8),
    _token(
        "jwt",
        r"ey[JK][A-Za-z0-9_-]{8,}\.(?:[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?(?:\.[A-Za-z0-9_-]{8,}){0,2}|(?:\.[A-Za-z0-9_-]{8,}){3})",
        "ey" + "JhbGciOiJI.a1B2c3D4e5.sig-1",
    ),
    _token("twilio", r"(?:AC|SK)[0-9a-f]{32}", "S" + "K" + "a1b2" * 8),
    _token("telegram", r"[0-9]{8,10}:AA[A-Za-z0-9_-]{30,}", "123456789:" + "AA" + "a1B2" * 8, gate=r"[0-9]:AA"),
    _token(
        "discord",
        r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",
        "M" + "a1B2" * 6 + ".a1B2c3." + "a1B2" * 7,
        gate=r"\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}",
    ),
    _token("npm", r"npm_[A-Za-z0-9]{30,}", "np" + "m_" + "a1B2" * 9),
    _token("pypi", r"pypi-[A-Za-z0-9_-]{16,}", "py" + "pi-" + "AgEI" * 6),
    _token("sendgrid", r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}", "S" + "G." + "a1B2" * 5 + "." + "a1B2" * 8),
    _token(
        "mailgun",
        r"key-[0-9a-f]{32}|[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}",
        "ke" + "y-" + "a1b2" * 8,
        gate=r"key-[0-9a-f]{32}|[0-9a-f]-[0-9a-f]{8}-[0-9a-f]{8}",
    ),
    _token("mailchimp", r"[0-9a-f]{32}-us[0-9]{1,2}", "a1b2" * 8 + "-u" + "s12", gate=r"[0-9a-f]-us[0-9]"),
    _token("groq", r"gsk_[A-Za-z0-9]{20,}", "gs" + "k_" + "a1B2" * 8),
    _token("xai", r"xai-[A-Za-z0-9]{20,}", "xa" + "i-" + "a1B2" * 8),
    _token("perplexity", r"pplx-[A-Za-z0-9]{20,}", "pp" + "lx-" + "a1B2" * 8),
    _token("replicate", r"r8_[A-Za-z0-9]{20,}", "r" + "8_" + "a1B2" * 8),
    _token("databricks", r"dapi[0-9a-f]{32}(?:-[0-9])?", "da" + "pi" + "a1b2" * 8),
    _token("pinecone", r"pcsk_[A-Za-z0-9_]{20,}", "pc" + "sk_" + "a1B2" * 8),
    _token("tavily", r"tvly-[A-Za-z0-9-]{16,}", "tv" + "ly-" + "a1B2" * 5),
    _token("langsmith", r"lsv2_[a-z]{2}_[0-9a-f]{20,}(?:_[0-9a-f]+)?|ls__[0-9a-f]{20,}", "ls" + "v2_pt_" + "a1b2" * 8),
    _token("wandb", r"wandb_v1_[A-Za-z0-9_]{20,}", "wan" + "db_v1_" + "a1B2" * 8),
    _token("linear", r"lin_(?:api|oauth)_[A-Za-z0-9]{20,}", "li" + "n_api_" + "a1B2" * 8),
    _token("notion", r"ntn_[A-Za-z0-9]{20,}|secret_[A-Za-z0-9]{40,}", "nt" + "n_" + "a1B2" * 8),
    _token("airtable", r"pat[A-Za-z0-9]{14}\.[0-9a-f]{32,}", "pa" + "t" + "a1B2c3D4e5F6g7" + "." + "a1b2" * 8),
    _token("postman", r"PMAK-[0-9a-f]{20,}-[0-9a-f]{20,}", "PM" + "AK-" + "a1b2" * 6 + "-" + "a1b2" * 8),
    _token("doppler", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.-]{20,}", "d" + "p.pt." + "a1B2" * 8),
    _token("vault", r"hv[sbr]\.[A-Za-z0-9_-]{20,}", "hv" + "s." + "a1B2" * 8),
    _token("atlassian", r"ATATT3[A-Za-z0-9_=-]{20,}|ATCTT3[A-Za-z0-9_=-]{20,}", "ATA" + "TT3" + "a1B2" * 8),
    _token("newrelic", r"NRAK-[A-Z0-9]{20,}|NRJS-[0-9a-f]{16,}", "NR" + "AK-" + "A1B2" * 7),
    _token("sentry", r"sntry[su]_[A-Za-z0-9_=+/-]{20,}", "sn" + "trys_" + "a1B2" * 8),
    _token("grafana", r"gl(?:c|sa)_[A-Za-z0-9+/_=]{20,}", "gl" + "sa_" + "a1B2" * 8),
    _token("supabase", r"sbp_[0-9a-f]{32,}|sb_(?:secret|publishable)_[A-Za-z0-9_-]{16,}", "sb" + "p_" + "a1b2" * 10),
    _token("square", r"sq0[a-z]{3}-[A-Za-z0-9_-]{20,}", "sq" + "0atp-" + "a1B2" * 6),
    _token("shopify", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}", "sh" + "pat_" + "a1b2" * 8),
    _token("digitalocean", r"do[opr]_v1_[0-9a-f]{32,}", "do" + "p_v1_" + "a1b2" * 16),
    _token("planetscale", r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{20,}", "psc" + "ale_tkn_" + "a1B2" * 8),
    _token("docker", r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{16,}", "dck" + "r_pat_" + "a1B2" * 6),
    _token("rubygems", r"rubygems_[0-9a-f]{32,}", "ruby" + "gems_" + "a1b2" * 12),
    _token("age", r"AGE-SECRET-KEY-1[0-9A-Z]{40,}", "AGE-SECRET" + "-KEY-1" + "A1B2" * 14),
    _token(
        "model_provider",
        r"(?:fw_[A-Za-z0-9]{22,}|sk_[0-9a-f]{40,}|csk-[a-z0-9]{32,}|tgp_v1_[A-Za-z0-9_-]{30,}|nvapi-[A-Za-z0-9_-]{40,}"
        r"|fc-[0-9a-f]{32}|e2b_[0-9a-f]{40}|jina_[A-Za-z0-9_-]{40,}|pa-[A-Za-z0-9_-]{43})",
        "nv" + "api-" + "a1B2" * 12,
    ),
    _token(
        "developer_service",
        r"(?:ATBB[A-Za-z0-9]{24,}|[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{40,}|v1\.0-[0-9a-f]{24}-[0-9a-f]{100,}"
        r"|HRKU-[A-Za-z0-9_-]{30,}|oy2[a-z0-9]{43}|napi_[a-z0-9]{40,}|pul-[0-9a-f]{40}|sq[apu]_[0-9a-f]{40}"
        r"|CCIP(?:AT|RJ)_[A-Za-z0-9]+_[0-9a-f]{40}|bk(?:ua|ct|aj)_[0-9a-f]{40}|shippo_(?:live|test)_[0-9a-f]{40}"
        r"|[0-2]/[0-9]{16}:[0-9a-f]{32}|unkey_[A-Za-z0-9]{20,}|fig[dou]r?_[A-Za-z0-9_-]{20,}|CFPAT-[A-Za-z0-9_-]{30,}"
        r"|ph[cx]_[A-Za-z0-9]{30,}|re_[A-Za-z0-9]{8}_[A-Za-z0-9]{24}|vc[aikpr]_[A-Za-z0-9]{24,}|rnd_[A-Za-z0-9]{28}"
        r"|sl\.[A-Za-z0-9_-]{100,}|tfp_[A-Za-z0-9_-]{40,}|u\+[A-Za-z0-9_-]{18}"
        r"|CLOJARS_[a-z0-9]{50,}|pn[bu]_[A-Za-z0-9]{36}|[0-2]/[0-9]{16}/[0-9]{16}:[0-9a-f]{32}|dt0[a-z][0-9]{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}"
        r"|FLW(?:SECK|PUBK)(?:_TEST)?-[0-9a-zA-Z]{12,}(?:-X)?|LTAI[A-Za-z0-9]{16,}|AKID[A-Za-z0-9]{32}|x(?:keysib|smtpsib)-[0-9a-f]{64}(?:-[A-Za-z0-9]{16})?"
        r"|rdme_[a-z0-9]{60,}|hc[a-z]ik_[a-z0-9]{50,}|esecret_[a-z0-9]{20,}|bb_live_[A-Za-z0-9_-]{20,}|apify_api_[A-Za-z0-9]{30,}|mlsn\.[0-9a-f]{60,}"
        r"|A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){2,3}|SCW[A-Z0-9]{17}|signkey-[a-z]+-[0-9a-f]{32,}"
        r"|sgp_[0-9a-f]{16}_[0-9a-f]{40}|sgd_[0-9a-f]{64}|key_[0-9a-f]{64}|seam_[A-Za-z0-9]{20,}"
        r"|pat-(?:na|eu|ap)[0-9]-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|LLM\|[0-9]{15,16}\|[A-Za-z0-9_-]{27}"
        r"|(?:sdk|access-(?:production|development|sandbox))-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",
        "AT" + "BB" + "a1B2" * 7,
    ),
    Rule(
        "ssh_public_key",
        r"(ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp[0-9]+) AAAA[A-Za-z0-9+/]{20,}=*(?: [^\s\"'@]+@[^\s\"'\\]+)?",
        "<ssh_key>",
        ("added ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIa1B2 ann@laptop", "added ssh-ed25519 <ssh_key>"),
        frame="${1} {}",
    ),
    Rule(
        "prefixed",
        rf"{B}(?:[a-z][a-z0-9]{{1,11}}[_-](?:live|test|prod|dev|sandbox|secret)|ak|sk|pat|apikey)[_-][A-Za-z0-9_-]{{14,}}",
        "<secret>",
        ("with acme_live_a1B2c3D4e5F6g7H8 rejected", "with <secret> rejected"),
        find=find_prefixed,
        needs=("[a-z]", "[A-Z]", "[0-9]"),
    ),
    Rule(
        "password_hash",
        r"\$(?:2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}|(?:[156y]|apr1)\$(?:rounds=[0-9]+\$|j[./A-Za-z0-9]{2,4}\$)?[./A-Za-z0-9]{1,22}\$[./A-Za-z0-9]{22,86}"
        r"|argon2(?:id?|d)\$v=[0-9]+\$[a-z0-9=,]+\$[+/A-Za-z0-9]{8,}\$[+/A-Za-z0-9]{20,})",
        "<secret:hash>",
        ("annb:$2b$12$" + "a1B2c" * 10 + "a1B:x", "annb:<secret:hash>:x"),
        gate=r"\$(?:2[abxy]|[156y]|apr1|argon2)",
    ),
    _token("facebook", r"EAA[A-Za-z0-9_-]{40,}", "EA" + "A" + "a1B2" * 12),
)

_CLOSE = r"[\\\"'`*\]]*"
_LOGIN_WORD = r"(?:(?:passw(?:or)?[dt]|passwd)[0-9]?|passphrase|passcode|requirepass|kennwort)"
_OWNED = (
    r"(?:(?i:db|database|sql|pg|postgres|mysql|mongo|redis|rabbit|mq|smtp|e?mail|imap|s?ftp|ldap|proxy|vpn|wifi|ssh[_-]|(?-i:SSH)|sudo|become"
    r"|root|admin|user|http|auth|keystore|kafka)[_-]?(?:pass|Pass|PASS))"
)
_PASS_SAID = rf"(?:pass|Pass|PASS|redis_auth|REDIS_AUTH|REDISCLI_AUTH){_CLOSE}[ \t]*[=:]"
_WORD = (
    rf"(?:{_LOGIN_WORD}|pwd|secret|token|api[_ -]?key|apikey|access[_-]?key"
    r"|private[_ -]?key|secret[_-]?key(?:[_-]?base)?|auth[_-]?key|encryption[_-]?key|signing[_-]?key"
    r"|account[_-]?key|(?:app(?:lication)?|license|master|shared|storage|subscription|consumer"
    r"|service(?:[_-]?role)?|server|admin|write|hmac|functions?|openai)[_-]?key|credentials?"
    r"|connection[_-]?string|session[_-]?key|csrf|otp)"
)
_NAME = rf"[A-Za-z0-9_.-]*{_WORD}"
_FOREIGN_WORD = (
    r"(?:ontrase[ñn]a|ONTRASE[ÑN]A|[Ss]enha|SENHA|ot de passe|OT DE PASSE|achtwoord|ACHTWOORD|ösenord|ÖSENORD"
    r"|ароль|АРОЛЬ|asło|[Hh]eslo|ifre|密码|パスワード|비밀번호)"
)
_KEYWORD = (
    r"(?i)pass|pwd|secret|token|key|credential|connection|csrf|otp|auth|bearer|basic|cookie"
    r"|identified|https? -|\s-[fgikLsSv]{0,5}u|--(?:proxy-)?user|sess"
    r"|\s-b[ =]\s*\\*[\"']|\.sid|kennwort|pw[\\\"'`*\] \t:]|mysql|mariadb|mycli|snowsql|mongo|sqlcmd|redis-cli|ldap"
    r"|twine|\slogin|sqlplus|expdp|impdp|sqlldr|@(?:tcp|unix)\(|sudo\s+-|\.login\(|net use "
    r"|:(?:54[0-9]{2}|6432|\*):|openssl|zip\s|7z[arz]?[\s.,\"']"
    r"|smbclient|rpcclient|rabbitmqctl|assword|assphrase|mnemonic|phrase|recovery words|seed words"
    rf"|(?-i:{_FOREIGN_WORD})"
)
_EQUALS = r"[ \t]*(?:=>|:=|=|:)(?:\*\*[ \t]|[ \t]*)"
_ASSIGNED = rf"(?i){_WORD}{_CLOSE}[ \t]*[=:]"
_LISTED = r"(?i)[\"'],\s*b?[\"']"
_AUTHORIZATION = r"(?i)authorization[\\\"']*\s*[:=]"
_OPEN = r"[\\\"'`]*"
_START = rf"[^\s\\\"'`<>,;&|(){{}}\[\]=:{PRIVATE}]"
_REST = rf"[^\s\\\"'`<>,;&|){{}}\]{PRIVATE}]"
_LOOKS_RANDOM = (
    rf"(?:[A-Za-z0-9+/_~-]{{16,}}(?:[.!@#$%^*?]+[A-Za-z0-9+/_~-]+)*=*|{_START}{_REST}{{2,}}[0-9!@#$%^&*]{_REST}*)"
)
_COOKIE = rf"{B}(?:set-)?cookie(?:[\\\"']*\s*[:=]|[\\\"']+\s*,)\s*(?:b?[\\\"']+)?"
_COOKIE_PART = r"[^\s;,=\\\"']*"
_COOKIE_REST = (
    rf"{_COOKIE_PART}(?:(?:;[ \t]*|[ \t]*=[ \t]*|,[ \t]*[a-z0-9_.-]+[ \t]*=[ \t]*){_COOKIE_PART}"
    r"|,[ \t][0-9]{2}[ -][a-z]{3}[ -][0-9]{4}[ \t][0-9:]{8}[ \t](?:gmt|utc))*"
)
"""Pairs, and attributes with their date. What follows otherwise behind a space or a comma is no cookie any more."""
_COMMAND = (
    r"sshpass|login|twine|chpasswd|snowsql|mongo|sqlcmd|redis-cli|ldap|mysql|mariadb|mycli|sqlplus|expdp|impdp|sqlldr"
    r"|net use "
    r"|password-stdin|sudo\s|http -|https -|@tcp\(|@unix\(|_auth=|_auth ="
)
_CASED = rf"[A-Za-z0-9_.-]*(?i:{_WORD})"
_FILL = r"(?:fill|type|send_keys|sendKeys|press_sequentially|setValue|set_value|input_text)"
_FIELD = r"(?:[Pp]ass(?:word|wd|phrase))[^\r\n\"',]{0,20}[\\\"'\])]+"
"""How the quoted name of an input field for passwords ends."""
_KEY_SAID = rf"(?i)key{_CLOSE}[ \t]*[=:]"
_IS_TOLD = r"(?:[ \t]+for[ \t]|[ \t]*(?::(?:\*\*)?|is|was|of|set to)[ \t])"
_IS_SPACED = (
    r"(?:[ \t]+(?:value|provided|key|given|->)?:?[ \t]*|:)\\*[(\"'`]?(?:[a-z]{1,2}\.)?"
    r"[A-Za-z0-9+_~-][A-Za-z0-9+/_~-]{15}"
)
_SPOKEN_OF = rf"(?i){_WORD}{_CLOSE}(?:{_IS_TOLD}|{_IS_SPACED})"
_SELDOM_TOLD = (
    r"auth\\*[\"']|<input|<INPUT|nemonic|NEMONIC|(?:eed|EED|very|VERY) (?:[Pp]hrase|PHRASE|[Ww]ords|WORDS)"
    r"|[ \t]to[ \t]+[\"'`]|(?:[Ss]et|ENV|setenv)[ \t]+[A-Za-z0-9_.-]|requirepass[ \t]|masterauth[ \t]"
    r"|[Ss]et(?:Password|Secret|Token|ApiKey)\("
    r"|variable[ \t]+\\*\"|(?:-b|--cookie)[ =]\s*\\*[\"']"
    r"|uth\s*=\s*\(|Auth\(|Credentials?\(|\.login\("
)
_GLUED = rf"(?:\$[^\s\"'<>A-Z{{({PRIVATE}]|[^\s\"'<>${PRIVATE}-])[^\s\"'<>{PRIVATE}]*"
"""What stands behind an option, unless it is a variable of the shell."""
_TOOL = r"openssl|smbclient|rpcclient|rabbitmqctl|htpasswd|-pass|AUTH |auth |zip\s|7z"
_BETWEEN = r"[\s\"',]+"
_ARGUMENT = r"[^\s\"',|;&]+"
_SHELL = r"(?:^|[\"'`$#>&|;(+]\s*|(?:sudo|exec|RUN)\s[^\r\n|;]*?)"
_SHELL_END = r"(?:\s*(?:$|[\r\n;|&\"'`)>])|\s[0-9]>)"
_TYPED = rf"[^\s\"'$<>|;&{PRIVATE}-][^\s\"'<>|;&{PRIVATE}]*"
_SESSION_NAME = (
    r"(?:[A-Za-z0-9_.-]*(?:[Ss]ess|SESS|[Tt]oken|TOKEN|[Aa]uth|AUTH|jwt|JWT|csrf|CSRF)[A-Za-z0-9_.-]*"
    r"|(?:connect\.)?sid|SID)"
)
_SESSION_COOKIE = r"(?:PHPSESSID|JSESSIONID|sessionid)"
_COOKIES_SAID = r"(?:cookies|PHPSESSID|JSESSIONID|sessionid)[\\\"' \t\r\n:=]"
_HASHED = r"(?-i:(?:OLD_)?PASSWORD|password|MD5|md5|SHA[12]|sha[12]|ENCRYPT|encrypt|CRYPT|crypt)"
_FLAG_NAME = (
    r"(?:(?:(?:http|ftp|proxy|db|database|vault|mysql|postgres|redis|smtp|admin|user|root)[_-])?password|passwd|pwd|(?:private[_-]key[_-])?passphrase|(?:store|key)pass"
    r"|(?:(?:access|auth|bearer|session|refresh|api|service|bot|github|gitlab|hf)[_-])?token|auth|oauth2-bearer"
    r"|(?:(?:client|app|webhook|signing|jwt)[_-])?secret|(?:access|secret|private)[_-]key|api[_-]?key)"
)
_FLAG = rf"(?:\s--?|(?:^|[\"'`(=])--){_FLAG_NAME}"
_PART = r"[A-Za-z_]+=(?:\\?\"[^\"\r\n]*\"|[^\s,\"']*)"
_ARGUMENTS = r"\((?:[^()\s]{0,60}\)(?:[\s,;.)\]}\[\\\"'`]|$)|[^()\r\n]{0,80}[,\"'\[(]|\s*$)"
_CODE = (
    rf"(?-i:[a-z_][A-Za-z_.]{{2,}}(?:{_ARGUMENTS}|\[[\"']|\[[a-z_]{{2,}}\])"
    r"|[A-Z][A-Za-z0-9]{2,}(?:\.[A-Za-z_]+)+" + _ARGUMENTS + r"|\.[a-z_]{3,}" + _ARGUMENTS + r"|[a-z_]+::[a-zA-Z_:]*\("
    r"|(?:Optional|Union|Annotated|List|Type|Literal|Final|ClassVar|Mapped|Option)[\[<][A-Za-z_.]+[\]>\[,]"
    r"|[\"'][^\"'A-Za-z0-9]{0,3}[\"']\.[a-z_]{3,}\(|await\s+[a-z_][A-Za-z_.]*\(|new\s+[A-Z][A-Za-z.]*\("
    r"|(?:[A-Za-z_]+\.)+[A-Za-z_]*(?:[Pp]assword|[Pp]asswd|[Pp]wd|[Tt]oken|[Ss]ecret|[Kk]ey|[Cc]redentials?)(?:[\s,;)\]}\\\"'`|<>\x1b]|$)"
    r"|(?:token|api_?key|(?:[a-z]+_)+(?:password|passwd|pwd|token|secret|key|credentials?)|[a-z]+(?:Password|Token|Secret|Key))(?:[\s;,)]|$)"
    r"|(?:[a-z_][a-z0-9_]*\.)+[a-z_][a-z0-9_]*" + _ARGUMENTS + r"|\$_?[A-Za-z_]+\[[\"']"
    r"|(?:password|passwd|pwd?|secret)(?:[,);]|\s|$))"
)
"""What a program assigns is a call, an element, an attribute or a variable, and no value."""
_KEY_FILE = (
    r"(?:~|\.{1,2}|[a-z]:)?[/\\][a-z0-9_./\\~\x1b-]*\.(?:pem|key|crt|cer|json|txt|ya?ml|env|p12|pfx|pub|toml|ini"
    r"|jks)(?:[^a-z0-9.]|\.?$|\.\s)"
)
_HARMLESS = (
    r"(?:null|none|nil|undefined|true|false|empty|missing|invalid|incorrect|wrong|required|expired|rejected|denied|not|no|yes"
    r"|must|cannot|is|was|(?:secret)?str|string|int|bool|bytes|optional|xxx+|os|env|getenv|process|self|config|settings)"
    r"(?:[\s,;.:)(\]}\"'\\<>?`|\x1b]|[!*]+(?:[\s\"'\\]|$)|$)|\*\*\*+|\*\*(?:[,;.)\]}\"'\\]|$)|\*\*[ \t]+[\\\"'`]*"
    rf"[(<\[{{{PRIVATE}]"
    r"|\.\.\.|\\+[nrt]\x1b|(?:\?|\$[0-9]{1,2}|@[a-z_]*(?:password|pwd|token|secret))(?:[\s,;)}\"'\\`|<>\x1b]|$)|-\}"
    r"|(?:asn1|x509|pkcs[0-9]+|http2|oauth2|base64|ed25519): |password (?:updated|unchanged|changed|is|must|has|expir)"
    r"|(?:permission denied|all authentication|authentication (?:token|fail)|no such )"
    r"|(?-i:\$\{?[A-Z_][A-Z0-9_]*\}?)(?:[\s,;.)\]}\"'\\`|<>&*\x1b]|$)|\$\{|\$\(|%[sdr(]"
    rf"|{_KEY_FILE}|your[_-](?:[a-z]+[_-])*(?:key|token|secret|password|here)(?:[\s,;.)\]}}\"'\\]|$)"
    rf"|\{{\{{|\{{[a-z_.]*\}}|\[[a-z_ ]*\]|<[a-z_ :-]{{0,40}}>|{_HASHED}\s*\(\s*[NE]?['\"]"
)


_USER_TOLD = rf"(?i:user(?:name)?|usr|login|e?mail){_CLOSE}{_EQUALS}{_OPEN}[^\s\\\"'`,;&]+"


def _quoted(quote: str) -> Rule:
    """Build the rule of a named secret between quotes: it may hold spaces and, if they are bare, escaped quotes."""
    other = rf"[^{quote}\\\r\n{PRIVATE}]"
    first = rf"(?:[^{quote}\\\r\n,)}}\]{PRIVATE}]|,[^\s{quote}\\{PRIVATE}]|[)}}\]][^\s{quote}\\,;)}}\]{PRIVATE}])"
    return Rule(
        f"quoted_secret_{'double' if quote == chr(34) else 'single'}",
        rf"(?i)({_WORD}{_CLOSE}{_EQUALS}[bunre]?)(?:({quote})(?:{first}|\\[^\r\n{PRIVATE}])(?:{other}|\\[^\r\n{PRIVATE}])*"
        rf"|(\\+{quote}){first}{other}*)",
        "<secret>",
        (f"api_key={quote}a b{quote}, n=3", f"api_key={quote}<secret>{quote}, n=3"),
        frame="${1}${2}${3}{}",
        gate=_ASSIGNED,
        also=rf"(?i)[=:>*][ \t]*[bunre]?\\*{quote}",
    )


_KEYWORDS = (
    Rule(
        "typed_secret",
        rf"(?i)({_WORD}:[ \t]*(?:&(?:'static[ \t]+)?str|(?:secret)?str|string)[ \t]*=[ \t]*\\*[\"']){_LOOKS_RANDOM}",
        "<secret>",
        ('let password: &str = "Fox1#ab";', 'let password: &str = "<secret>";'),
        frame="${1}{}",
        gate=_ASSIGNED,
        also=r"(?i)str(?:ing)?[ \t]*=[ \t]*\\*[\"']",
    ),
    Rule(
        "working_directory",
        rf"({B}(?:PWD|OLDPWD|pwd)[\\\"']*[=:][ \t]*[\\\"']*)(/|[A-Za-z]:[\\/])",
        KEEP,
        ("PWD=/srv/app pwd: /srv", "PWD=/srv/app pwd: /srv"),
        frame="${1}{}${2}",
        gate=r"(?:PWD|pwd)[\\\"']*[=:]",
    ),
    Rule(
        "harmless_value",
        rf"(?i)({_WORD}{_CLOSE}{_EQUALS}{_OPEN})({_HARMLESS})",
        KEEP,
        ("password=None, token: missing", "password=None, token: missing"),
        frame="${1}{}${2}",
        gate=_ASSIGNED,
    ),
    Rule(
        "harmless_code",
        rf"(?i)({_WORD}{_CLOSE}{_EQUALS})({_CODE})",
        KEEP,
        ("f(api_key=get_key(), password=pw)", "f(api_key=get_key(), password=pw)"),
        frame="${1}{}${2}",
        gate=_ASSIGNED,
    ),
    Rule(
        "harmless_token",
        rf"((?:stop|eos|bos|pad|sep|unk|cls|mask|special|image)_token{_CLOSE}{_EQUALS}{_OPEN}|(?:max|min|num|page|total|prompt|input"
        rf"|output|completion|cached?|reasoning|per|next|first|last|context)_token{_CLOSE}{_EQUALS})"
        rf"([0-9]{{1,7}}(?:[^0-9A-Za-z.]|\.?$)|[<\[][^\s{PRIVATE}])",
        KEEP,
        ("max_token=4096, eos_token='</s>'", "max_token=4096, eos_token='</s>'"),
        frame="${1}{}${2}",
        gate=_ASSIGNED,
        also="_token",
    ),
    Rule(
        "authorization_parts",
        r"(?i)(authorization[\\\"']*\s*[:=]\s*[\\\"']*(?:digest|aws4-hmac-sha256|oauth|hawk|signature)\s+)"
        rf"{_PART}(?:,\s*{_PART})*",
        "<secret:authorization>",
        (
            'Authorization: Digest username="a", response="b1" sent',
            "Authorization: Digest <secret:authorization> sent",
        ),
        frame="${1}{}",
        gate=_AUTHORIZATION,
    ),
    Rule(
        "harmless_authorization",
        r"(?i)(authorization[\\\"']*\s*[:=]\s*)((?:[bfru]?[\\\"'`]+)?(?:(?:bearer|basic|token)\s*)?(?:none|null|nil|undefined|missing|required|invalid"
        r"|denied|failed|(?-i:YOUR_[A-Z_]+)|\$\{?[a-z_][a-z_.()]*\}?|<[a-z_ -]{1,40}>|\{[a-z_.()]+\}|%s"
        r"|\*\*\*+)(?:[\s,;.)\]}\"'`\\!|\x1b]|$)"
        r"|[\\\"'`]*(?:bearer|basic|token)\s*(?:[\r\n\"',]|$))",
        KEEP,
        ("Authorization: Bearer <token>, is missing", "Authorization: Bearer <token>, is missing"),
        frame="${1}{}${2}",
        gate=_AUTHORIZATION,
    ),
    Rule(
        "authorization_done",
        rf"(?i)(authorization)([\\\"']*\s*[:=]\s*[\\\"'`]*(?:[a-z-]+\s+)?(?:token=\\*[\"']?)?[{PRIVATE}])",
        KEEP,
        ("Authorization: Bearer <secret:authorization>", "Authorization: Bearer <secret:authorization>"),
        frame="${1}{}${2}",
        gate=_AUTHORIZATION,
    ),
    Rule(
        "authorization",
        r"(?i)(authorization[\\\"']*\s*[:=]\s*(?:[bfru]?[\\\"'`]+)?(?:(?:bearer|basic|token|digest|api-?key|negotiate)\s+(?:token=\\*[\"']?)?)?)"
        rf"[^\s\\\"',;<>`{PRIVATE}]+",
        "<secret:authorization>",
        ("Authorization: Bearer abc.def rejected", "Authorization: Bearer <secret:authorization> rejected"),
        frame="${1}{}",
        gate=_AUTHORIZATION,
    ),
    Rule(
        "bearer",
        rf"(?i)({B}(?:bearer|basic)\s+)(?:[A-Za-z0-9._~+/-]{{16,}}=*|[A-Za-z._~+/-]*[0-9][A-Za-z0-9._~+/-]{{7,}}=*)",
        "<secret:authorization>",
        ("sent bearer a1b2c3d4e5f6 twice", "sent bearer <secret:authorization> twice"),
        frame="${1}{}",
        gate=r"(?i)(?:bearer|basic)\s+[A-Za-z0-9._~+/-]{8}",
    ),
    Rule(
        "harmless_cookie",
        rf"(?i)({_COOKIE})((?:null|none|nil|undefined|true|false|enabled|disabled|missing|empty|expired|invalid|required)"
        r"(?:[\s,;.)\]}][^=\r\n\"'\\]*)?(?:[\r\n\"'\\]|$))",
        KEEP,
        ("cookie: none", "cookie: none"),
        frame="${1}{}${2}",
        gate=r"(?i)cookie[\\\"']*\s*[:=,]",
    ),
    Rule(
        "cookie",
        rf"(?i)({_COOKIE})[^\s\\\"'{PRIVATE}]{_COOKIE_REST}",
        "<secret:cookie>",
        ("Cookie: sid=abc; theme=dark\nGET", "Cookie: <secret:cookie>\nGET"),
        frame="${1}{}",
        gate=r"(?i)cookie[\\\"']*\s*[:=,]",
    ),
    Rule(
        "cookie_flag",
        rf"((?:\s-b|--cookie)[ =]\s*\\*[\"'][A-Za-z0-9_.-]+=)[^\"'\\{PRIVATE}]+",
        "<secret:cookie>",
        ("curl -b 'session=a1b2' x.example", "curl -b 'session=<secret:cookie>' x.example"),
        frame="${1}{}",
        gate=_SELDOM_TOLD,
    ),
    Rule(
        "session_cookie",
        rf"(?i)({B}(?:phpsessid|jsessionid|asp\.net_sessionid|sessionid|connect\.sid|laravel_session)=)"
        rf"[^\s;&?,\"'<>{PRIVATE}]+",
        "<secret:cookie>",
        ("/cart;jsessionid=A1B2?page=2", "/cart;jsessionid=<secret:cookie>?page=2"),
        frame="${1}{}",
        gate=r"(?i)(?:sess|sessid|session|sessionid|\.sid)=",
    ),
    Rule(
        "quoted_session",
        rf"([\"']{_SESSION_COOKIE}[\\\"']+\s*:"
        rf"\s*[\\\"']+)\.?(?:s(?:%3A|:))?[A-Za-z0-9]{{16}}{_REST}*",
        "<secret:cookie>",
        ('{"JSESSIONID": "A1B2C3D4E5F6A7B8", n: 3}', '{"JSESSIONID": "<secret:cookie>", n: 3}'),
        frame="${1}{}",
        gate=_COOKIES_SAID,
    ),
    Rule(
        "cookie_object",
        rf"(cookies[\\\"']*[ \t]*[:=]\s*\{{)[^{{}}\r\n]*?[\"']{_SESSION_NAME}[\\\"']+"
        rf"\s*:\s*[\\\"']+{_LOOKS_RANDOM}[^{{}}\r\n]*(\}})",
        "<secret:cookie>",
        ('{"cookies": {"theme": "dark", "session": "a1b2c3d4"}}', '{"cookies": {<secret:cookie>}}'),
        frame="${1}{}${2}",
        gate=_COOKIES_SAID,
    ),
    Rule(
        "listed_flag",
        rf"(?i)([\"']--?{_NAME}[\"'],\s*[\"'])[^\"'\\\r\n{PRIVATE}]+",
        "<secret>",
        ("['--password', 'pw1', '-v']", "['--password', '<secret>', '-v']"),
        frame="${1}{}",
        gate=_LISTED,
    ),
    Rule(
        "paired_secret",
        rf"(?i)(\(\s*b?[\"']{_NAME}[\"'],\s*b?[\"']){_LOOKS_RANDOM}",
        "<secret>",
        ("('x-api-key', 'a1b2c3d4e5')", "('x-api-key', '<secret>')"),
        frame="${1}{}",
        gate=_LISTED,
    ),
    Rule(
        "named_value",
        rf"(?i)((?:key|name)[\"']?\s*[:=]\s*[\"']?(?:{_NAME}|[A-Za-z0-9_.-]*{_OWNED})[\"']?(?:,\s*|\s+)[\"']?value[\"']?\s*[:=]\s*[\"'])[^\"'{PRIVATE}]+",
        "<secret>",
        ('{"name": "API_KEY", "value": "a1"}', '{"name": "API_KEY", "value": "<secret>"}'),
        frame="${1}{}",
        gate=r"(?i)value[\"']?\s*[:=]",
    ),
    Rule(
        "named_plain_value",
        rf"(?i)({B}(?:key|name):[ \t]*[\"']?(?:{_NAME}|[A-Za-z0-9_.-]*{_OWNED})[\"']?,?\s+"
        rf"value:[ \t]*)[^\s\"'$|>{{}},{PRIVATE}][^\s\"'{{}},{PRIVATE}]*",
        "<secret>",
        ("- name: DB_PASSWORD\n  value: pw1", "- name: DB_PASSWORD\n  value: <secret>"),
        frame="${1}{}",
        gate=r"(?i)value[\"']?\s*[:=]",
    ),
    Rule(
        "block_scalar",
        rf"(?i)({_WORD}{_CLOSE}:[ \t]*[|>][+-]?[ \t]*\r?\n[ \t]+)[^\s{PRIVATE}]+",
        "<secret>",
        ("password: |\n  pw1\nn: 3", "password: |\n  <secret>\nn: 3"),
        frame="${1}{}",
        gate=r"[|>][+-]?[ \t]*\r?\n",
    ),
    Rule(
        "encoded_secret",
        rf"(?i)({_WORD}(?:%5C|%22|%27|%5D)*(?:%20|\+)*(?:%3A|%3D)(?:%20|\+|%5C|%22|%27)*)"
        rf"(?:[^%&\s\"'<>{PRIVATE}]|%(?:2[013-589ABDEF]|3[0-9BCEF]|[4-6][0-9A-F]|[89A-F][0-9A-F]))+",
        "<secret>",
        ("body=%7B%22password%22%3A%22pw1%22%7D", "body=%7B%22password%22%3A%22<secret>%22%7D"),
        frame="${1}{}",
        gate=r"%3[ADad]",
    ),
    Rule(
        "npm_auth",
        rf"((?:^|[\s\x1b:\"'])_auth ?=\s*[\"']?)[^\s\"'$<>{PRIVATE}][^\s\"'<>{PRIVATE}]*",
        "<secret>",
        ("//npm.example/:_auth=YW5uOnB3", "//npm.example/:_auth=<secret>"),
        frame="${1}{}",
        gate=_COMMAND,
    ),
    Rule(
        "driver_url",
        rf"((?:^|[\s\x1b\"'=(]))[^\s/:@'\"<>=(`{PRIVATE}]+:[^\s'\"<>`{PRIVATE}]*(@(?:tcp|unix)\()",
        "<credentials>",
        ("open app:pw1@tcp(db:3306)/prod", "open <credentials>@tcp(db:3306)/prod"),
        frame="${1}{}${2}",
        gate=_COMMAND,
    ),
    Rule(
        "oracle_login",
        rf"((?:sqlplus|expdp|impdp|sqlldr)\s(?:-\S+\s+)*[\"']?)[A-Za-z][^\s/@\"'{PRIVATE}]*/[^\s@/\"'{PRIVATE}][^\s@\"'{PRIVATE}]*",
        "<credentials>",
        ("sqlplus -s ann/pw1@orcl", "sqlplus -s <credentials>@orcl"),
        frame="${1}{}",
        gate=_COMMAND,
    ),
    Rule(
        "windows_login",
        rf"({B}net use [^\r\n|;]*?/(?:u|user|USER):)[^\s{PRIVATE}]+(?:[ \t]+[^\s/{PRIVATE}][^\s{PRIVATE}]*)?",
        "<credentials>",
        (r"net use Z: \\srv\x /user:CORP\annb pw1", r"net use Z: \\srv\x /user:<credentials>"),
        frame="${1}{}",
        gate=_COMMAND,
    ),
    Rule(
        "piped_password",
        rf"({B}echo\s+(?:-n\s+)?[\"']?)[^\s\"'$|`<>{PRIVATE}]+([\"']?\s*\|\s*(?:[^\r\n|]*--?password-stdin|(?:sudo\s+)?chpasswd|sudo\s+(?:-[A-Za-z]+\s+)*-[A-Za-z]*S))",
        "<secret>",
        ("echo pw1 | docker login -u a --password-stdin", "echo <secret> | docker login -u a --password-stdin"),
        frame="${1}{}${2}",
        gate=_COMMAND,
    ),
    Rule(
        "owned_pass",
        rf"((?:{_OWNED}|redis_auth|REDIS(?:CLI)?_AUTH){_CLOSE}{_EQUALS}{_OPEN}){_START}{_REST}*",
        "<secret>",
        ("SMTP_PASS=pw1 PORT=3", "SMTP_PASS=<secret> PORT=3"),
        frame="${1}{}",
        gate=_PASS_SAID,
    ),
    Rule(
        "user_and_pass",
        rf"((?:{B}{_USER_TOLD}[ \t\\\"'`,;&]+|(?m:^)[ \t\\\"'`{{-]*{_USER_TOLD}[\s\\\"'`,;&]+)"
        rf"(?:pass|Pass|PASS){_CLOSE}{_EQUALS}{_OPEN}){_START}{_REST}*",
        "<secret>",
        ("user: admin pass: pw1", "user: admin pass: <secret>"),
        frame="${1}{}",
        gate=_PASS_SAID,
    ),
    Rule(
        "mixed_pass",
        rf"({B}(?:pass|Pass|PASS){_CLOSE}[ \t]*[=:][ \t]*{_OPEN})(?:[A-Za-z]+[0-9][A-Za-z0-9]*[!@#$^&*]"
        r"|[A-Za-z]+(?:[!$^&*]+|@[A-Za-z]+)[A-Za-z!$^&*]*[0-9])"
        rf"[A-Za-z0-9!@#$%^&*_-]*",
        "<secret>",
        ("host: db pass: Fox1#ab", "host: db pass: <secret>"),
        frame="${1}{}",
        gate=_PASS_SAID,
    ),
    Rule(
        "docker_auth",
        r"([\"']_?auth\\*[\"']\s*:\s*\\*[\"'])[A-Za-z0-9+/]{8,}={0,2}(\\*[\"'])",
        "<secret>",
        ('{"r.example": {"auth": "YW5uYjpwdzE="}}', '{"r.example": {"auth": "<secret>"}}'),
        frame="${1}{}${2}",
        gate=_SELDOM_TOLD,
    ),
    Rule(
        "password_input",
        rf"(<(?:input|INPUT){B}[^<>]*(?i:type=\\*[\"']?password[^<>]*\svalue=)\\*[\"'])[^\"'\\<>{PRIVATE}]+",
        "<secret>",
        ('<input type="password" value="pw1">', '<input type="password" value="<secret>">'),
        frame="${1}{}",
        gate=_SELDOM_TOLD,
    ),
    Rule(
        "seed_phrase",
        r"((?:[Mm]nemonic|MNEMONIC|(?:[Ss]eed|SEED|[Rr]ecovery|RECOVERY) (?:[Pp]hrase|PHRASE|[Ww]ords"
        r"|WORDS))[\\\"']*[ \t]*[:=]?[ \t]*[\\\"'(]*)"
        rf"[a-z]{{3,8}}(?:[ ,]{{1,2}}[a-z]{{3,8}}){{11,23}}{B}",
        "<secret>",
        (
            "mnemonic: sun ice tree door lamp fish coat ring moon sand leaf bird",
            "mnemonic: <secret>",
        ),
        frame="${1}{}",
        gate=_SELDOM_TOLD,
    ),
    Rule(
        "element",
        rf"(?i)(<(?:[a-z]+:)?{_NAME}(?:\s[^<>]*)?>|<key>{_NAME}</key>\s*<string>)[^<>{PRIVATE}]+(</)",
        "<secret>",
        ("<db><password>pw 1</password></db>", "<db><password><secret></password></db>"),
        frame="${1}{}${2}",
        gate="</",
    ),
    Rule(
        "netrc",
        rf"(machine\s+[^\s{PRIVATE}]+\s+login\s+)[^\s{PRIVATE}]+(\s+password\s+)[^\s{PRIVATE}]+",
        "<credentials>",
        (
            "machine git.example login ann password pw1",
            "machine git.example login <credentials> password <credentials>",
        ),
        frame="${1}{}${2}{}",
        gate=r"machine\s",
    ),
    Rule(
        "pgpass",
        rf"((?:^|[\s\x1b\"'])[A-Za-z0-9.*_-]+:(?:54[0-9]{{2}}|6432|\*):[A-Za-z0-9_*-]+:[A-Za-z0-9_.*-]+:)[^\s:\"'{PRIVATE}]+",
        "<secret>",
        ("db.example:5432:prod:app:pw1", "db.example:5432:prod:app:<secret>"),
        frame="${1}{}",
        gate=r":(?:54[0-9]{2}|6432|\*):",
    ),
    Rule(
        "glued_password",
        rf"({B}(?:mysql[a-z]*|mariadb[a-z-]*|mycli)(?:\.exe)?(?:[\"'],?)?\s"
        rf"(?:(?:[^\r\n|;:]|:[^/\r\n|;])*?\s)??[\"']?-p[\"']?)"
        rf"(?:\$[^\s\"'<>A-Z{{({PRIVATE}]|[^\s\"'<>/${PRIVATE}])[^\s\"'<>{PRIVATE}]*",
        "<secret>",
        ("mysql -u root -ppw1 prod", "mysql -u root -p<secret> prod"),
        frame="${1}{}",
        gate=_COMMAND,
    ),
    Rule(
        "short_flag",
        rf"({B}(?:sshpass\s+-p|(?:(?:docker|podman|az)\s+login|twine\s+upload|snowsql|mongo(?:sh|dump|restore|import|export)?|sqlcmd)"
        r"\s(?:[^\r\n|;]*?\s)??-[pP]|redis-cli\s(?:[^\r\n|;]*?\s)??(?:-a|--pass)|ldap[a-z]+\s(?:[^\r\n|;]*?\s)??-w)\s*[\"']?)"
        rf"{_GLUED}",
        "<secret>",
        ("docker login -u ann -p pw1 hub", "docker login -u ann -p <secret> hub"),
        frame="${1}{}",
        gate=_COMMAND,
    ),
    Rule(
        "openssl_password",
        rf"((?:\s|[\"'])-pass(?:in|out)?{_BETWEEN}pass:|{B}openssl\s+(?:enc|aes|des)[a-z0-9-]*\s(?:[^\r\n|;]*?\s)??-[kK]\s+[\"']?)"
        rf"[^\s\"'$%{{<>{PRIVATE}-][^\s\"'<>{PRIVATE}]*",
        "<secret>",
        ("openssl rsa -passin pass:pw1 -in k.pem", "openssl rsa -passin pass:<secret> -in k.pem"),
        frame="${1}{}",
        gate=_TOOL,
    ),
    Rule(
        "archive_password",
        rf"({B}(?:(?:un)?zip\s+(?:-\S+\s+|[^\s|;&]*[./][^\s|;&]*\s+){{0,6}}?-[a-z]*P\s*"
        rf"|7z[arz]?(?:\.exe)?{_BETWEEN}[aeltuxd]{_BETWEEN}(?:{_ARGUMENT}{_BETWEEN}){{0,8}}?-p)[\"']?)"
        rf"[^\s\"'$<>{PRIVATE}-][^\s\"'<>{PRIVATE}]*",
        "<secret>",
        ("7z x -ppw1 a.7z; zip -r -P pw2 b.zip c", "7z x -p<secret> a.7z; zip -r -P <secret> b.zip c"),
        frame="${1}{}",
        gate=_TOOL,
    ),
    Rule(
        "samba_login",
        rf"({B}(?:smbclient|rpcclient)\s(?:[^\r\n|;]*?\s)??(?:-U|--user[= ])\s*[\"']?)"
        rf"[^\s%\"'$<>{PRIVATE}]+%[^\s\"'$<>{PRIVATE}][^\s\"'<>{PRIVATE}]*",
        "<credentials>",
        ("smbclient -U ann%pw1 //srv/x", "smbclient -U <credentials> //srv/x"),
        frame="${1}{}",
        gate=_TOOL,
    ),
    Rule(
        "account_command",
        rf"(?m)({_SHELL}rabbitmqctl\s+(?:-\S+\s+\S+\s+)?(?:add_user|change_password|authenticate_user)[ \t]+"
        rf"|{_SHELL}htpasswd\s+(?:-[A-Za-z0-9]+\s+(?:[0-9]+\s+)?)*?-[A-Za-z0-9]*b[A-Za-z0-9]*\s+(?:-[A-Za-z0-9]+\s+(?:[0-9]+\s+)?)*"
        rf"(?:{_TYPED}[ \t]+)?){_TYPED}[ \t]+{_TYPED}({_SHELL_END})",
        "<credentials>",
        ("htpasswd -b .htpasswd ann pw1 && ls", "htpasswd -b .htpasswd <credentials> && ls"),
        frame="${1}{}${2}",
        gate=_TOOL,
    ),
    Rule(
        "redis_login",
        rf"(?m)((?:(?::[0-9]{{2,5}}(?:\[[0-9]+\])?|redis[^\s>]{{0,40}})> ?|redis-cli\s[^\r\n|;]*?)"
        rf"(?:AUTH|auth) +(?:[A-Za-z0-9_.-]+ +)??)"
        rf"{_TYPED}({_SHELL_END})",
        "<secret>",
        ("10.1.2.x:6379> AUTH pw1\nOK", "10.1.2.x:6379> AUTH <secret>\nOK"),
        frame="${1}{}${2}",
        gate=_TOOL,
    ),
    Rule(
        "bare_redis_login",
        r"(?m)(^AUTH +(?:default +)?)(?:[A-Za-z0-9]+[!$%^&*]+[A-Za-z0-9!#$%^&*]*[0-9]"
        r"|[A-Za-z0-9]+[A-Za-z][0-9]+[A-Za-z])[A-Za-z0-9!#$%^&*_-]*(\s*$)",
        "<secret>",
        ("AUTH pass1word\r\nOK", "AUTH <secret>\r\nOK"),
        frame="${1}{}${2}",
        gate=_TOOL,
    ),
    Rule(
        "expected_password",
        rf"((?:assword|assphrase)[^\r\n\"'{PRIVATE}]{{0,20}}[\\\"'}})]+(?:[\s;{{\x1b]|\\+[nrt])*(?:[A-Za-z_]+\.|exp_)?send(?:line)?(?:\s+--)?[\s(]+"
        rf"[\\\"']+)(?:[^\s\"'\\$\[{{<>{PRIVATE}])(?:[^\"'\\\r\n{PRIVATE}]|\\[^rnt\"'\\\r\n{PRIVATE}])*",
        "<secret>",
        (r'expect "*?assword:*"; send "pw1\r"', r'expect "*?assword:*"; send "<secret>\r"'),
        frame="${1}{}",
        gate=r"send(?:line)?(?:\s+--)?[\s(]+[\\\"']",
    ),
    Rule(
        "harmless_flag",
        rf"(?i)({_FLAG} )((?:or|and|is|was|to|in|with|flags?|options?|arguments?|parameters?|values?"
        r"|must|can|cannot|not|has|have|needs?|requires?|required|expects?|expected|for|from|on|as|by|if|when|but|instead|before|after|does"
        r"|did|should|may|will|given|provided|missing|invalid|specified|unset|set|without|using|via|environment|first|only)(?:[\s,.;:)]|$))",
        KEEP,
        ("pass --token or set it", "pass --token or set it"),
        frame="${1}{}${2}",
        gate=rf"(?i)-{_FLAG_NAME}[= ]",
    ),
    Rule(
        "command_line",
        rf"(?i)({_FLAG}[= ]\s*[\"']?)[^\s\"'<>{PRIVATE}-][^\s\"'<>{PRIVATE}]*",
        "<secret>",
        ("run --api-key abcdef --retries 3", "run --api-key <secret> --retries 3"),
        frame="${1}{}",
        gate=rf"(?i)-{_FLAG_NAME}[= ]",
    ),
    Rule(
        "basic_user",
        rf"(\s(?:-[fgikLsSv]{{0,5}}u|--(?:proxy-)?user[= ])\s*[\"']?)[0-9]*[^\s:\"'<>0-9{PRIVATE}][^\s:\"'<>{PRIVATE}]*"
        rf":(?:/[^\s/\"'<>{PRIVATE}]|\$[^\s\"'<>A-Z{{({PRIVATE}]|[^\s/\"'<>${PRIVATE}])"
        rf"[^\s\"'<>{PRIVATE}]*",
        "<credentials>",
        ("curl -u bob:hunter2 https://x", "curl -u <credentials> https://x"),
        frame="${1}{}",
        gate=r"\s-(?:[fgikLsSv]{0,5}u|-(?:proxy-)?user[= ])",
    ),
    Rule(
        "httpie_login",
        rf"({B}https? -(?:[^\r\n|;]*?\s-)?a\s+[\"']?)[^\s:\"'<>{PRIVATE}]+:[^\s\"'<>{PRIVATE}]+",
        "<credentials>",
        ("http -a ann:pw1 GET x.example", "http -a <credentials> GET x.example"),
        frame="${1}{}",
        gate=_COMMAND,
    ),
    Rule(
        "sql_password",
        rf"(?i)((?:identified\s+by\s+|(?:password|passphrase)[ \t]+)\\*['\"])"
        rf"(?:[^'\"\\{PRIVATE}]|\\[^'\"\\{PRIVATE}])+",
        "<secret>",
        ("CREATE USER a IDENTIFIED BY 'pw1'", "CREATE USER a IDENTIFIED BY '<secret>'"),
        frame="${1}{}",
        gate=r"(?i)(?:by|password|passphrase)\s+\\*['\"]",
    ),
    Rule(
        "sql_hashed_password",
        r"((?:(?:IDENTIFIED|identified)(?i:\s+(?:by|(?:with|via)\s+['\"`]?[a-z0-9_]+['\"`]?\s+(?:by|as|using))"
        r"(?:\s+(?:values|password))?)\s+|(?:PASSWORD|password)\s+[NEe]"
        rf"|(?:{KEEP}{_HASHED}|PASSWORD|(?i:using)\s+password)\s*\(\s*[NE]?)['\"])[^'\"{PRIVATE}]+",
        "<secret>",
        ("IDENTIFIED WITH x BY 'pw1'", "IDENTIFIED WITH x BY '<secret>'"),
        frame="${1}{}",
        gate=r"(?:IDENTIFIED|identified)\s|(?:PASSWORD|password)(?:\s*\(|\s+[NEe]['\"])|(?:MD5|md5|SHA[12]|sha[12]|CRYPT|crypt)\s*\(",
    ),
    Rule(
        "set_password",
        rf"(?i)({_LOGIN_WORD}[ \t]+(?-i:to)[ \t]+[\"'`])[^\s\"'`\\{PRIVATE}]+([\"'`])",
        "<secret>",
        ('set password to "pw1" and retry', 'set password to "<secret>" and retry'),
        frame="${1}{}${2}",
        gate=_SELDOM_TOLD,
    ),
    _quoted('"'),
    _quoted("'"),
    Rule(
        "assigned_secret",
        rf"(?i)({_WORD}{_CLOSE}[ \t]*(?:=>|:=|=)[ \t]*{_OPEN}){_START}{_REST}*",
        "<secret>",
        ("password=apple7! host=db", "password=<secret> host=db"),
        frame="${1}{}",
        gate=_ASSIGNED,
    ),
    Rule(
        "enclosed_secret",
        rf"(?i)({_WORD}{_CLOSE}{_EQUALS}[<(\[{{]{_OPEN}){_LOOKS_RANDOM}",
        "<secret>",
        ("api_key=<abc123def456> and token=(expired)", "api_key=<<secret>> and token=(expired)"),
        frame="${1}{}",
        gate=_ASSIGNED,
        also=r"[=:>][ \t]*[<(\[{]",
    ),
    Rule(
        "told_password",
        rf"(?i)((?:{_LOGIN_WORD}|{B}pwd?){_CLOSE}(?:[ \t]+(?:is|lautet))?[ \t]*:(?:\*\*[ \t]|[ \t]*)"
        rf"{_OPEN}){_START}{_REST}*",
        "<secret>",
        ("password: river stays", "password: <secret> stays"),
        frame="${1}{}",
    ),
    Rule(
        "foreign_password",
        rf"({_FOREIGN_WORD}{_CLOSE}[ \t]*[:=\x{{FF1A}}][ \t]*{_OPEN}){_START}{_REST}*",
        "<secret>",
        ("mot de passe : pw1, encore", "mot de passe : <secret>, encore"),
        frame="${1}{}",
        gate=_FOREIGN_WORD,
    ),
    Rule(
        "told_secret",
        rf"(?i)({_WORD}{_CLOSE}(?:[ \t]+for(?:[ \t]+user)?[ \t]+\S{{1,40}})?[ \t]*(?::(?:\*\*)?|is set to|set to|is|was"
        rf"|of)[ \t]+{_OPEN}){_LOOKS_RANDOM}",
        "<secret>",
        ("API_KEY is set to abc123def and fails", "API_KEY is set to <secret> and fails"),
        frame="${1}{}",
        gate=_SPOKEN_OF,
        also=rf"(?i){_WORD}{_CLOSE}{_IS_TOLD}",
    ),
    Rule(
        "spaced_secret",
        rf"(?i){_NAME}{_CLOSE}(?:[ \t]+(?:value|provided|key|given|->)?:?[ \t]*|:)\\*[(\"'`]?(?:[a-z]{{1,2}}\.)?"
        rf"[A-Za-z0-9+_~-][A-Za-z0-9+/_~-]{{15,}}(?:[.!@#$%^*?]+[A-Za-z0-9+/_~-]+)*",
        "<secret>",
        ("Incorrect API key provided: a1B2c3D4e5F6g7H8. Look", "Incorrect API key provided: <secret>. Look"),
        find=find_told,
        gate=_SPOKEN_OF,
        also=rf"(?i){_WORD}{_CLOSE}{_IS_SPACED}",
    ),
    Rule(
        "spaced_password",
        rf"(?i)({B}(?:passw(?:or)?[dt]|passphrase)[ \t]+(?:->[ \t]*)?[\"'`]?)"
        rf"[a-z0-9][^\s\"'`<>,;{PRIVATE}]{{2,}}(?:[!#$%^&*]|@[0-9])"
        rf"[^\s\"'`<>,;{PRIVATE}]*",
        "<secret>",
        ("with password Fox#123 failed", "with password <secret> failed"),
        frame="${1}{}",
    ),
    Rule(
        "set_secret",
        rf"({B}(?:[Ss]et[ \t]+{_CASED}[ \t]+to|(?:ENV|setenv|set[ \t]+-[gUx]+)[ \t]+{_CASED}"
        rf"|secret[ \t]+set[ \t]+{_CASED}[ \t]+(?:-b|--body))[ \t=]+{_OPEN}){_LOOKS_RANDOM}",
        "<secret>",
        ("ENV DB_PASSWORD Fox1#ab\nset api_key to abc123def4", "ENV DB_PASSWORD <secret>\nset api_key to <secret>"),
        frame="${1}{}",
        gate=_SELDOM_TOLD,
    ),
    Rule(
        "configured_secret",
        rf"((?m:^)[ \t]*(?:requirepass|masterauth)[ \t]+{_OPEN}|[Ss]et(?:Password|Secret|Token|ApiKey)\(\s*\\*[\"']"
        rf"|variable[ \t]+\\*\"{_CASED}\\*\"[ \t]*\{{[^{{}}]*?default[ \t]*=[ \t]*\\*\")"
        rf"[^\s\"'\\$%{{<(){PRIVATE}][^\s\"'\\{PRIVATE}]*",
        "<secret>",
        ('requirepass pw1\nds.setPassword("pw2");', 'requirepass <secret>\nds.setPassword("<secret>");'),
        frame="${1}{}",
        gate=_SELDOM_TOLD,
    ),
    Rule(
        "filled_in",
        rf"((?:{_FILL}\([^\r\n]{{0,60}}?{_FIELD},\s*(?:text=|value=)?|{_FIELD}\.{_FILL}\(|{_FIELD},\s*[\\\"']+(?:text|value)[\\\"']+\s*:\s*)"
        rf"[\\\"']+)[^\s\"'\\{PRIVATE}]+([\\\"'])",
        "<secret>",
        ("page.fill('#password', 'pw1') timed out", "page.fill('#password', '<secret>') timed out"),
        frame="${1}{}${2}",
        gate=_FIELD,
    ),
    Rule(
        "login_call",
        r"((?:[Aa]uth\s*=\s*\(|Auth\(|NetworkCredential\(|PlainCredentials\(|PasswordCredentials?\(|\.login\()\s*b?[\"'][^\"'\r\n]{1,80}[\"']\s*,\s*b?[\"'])"
        rf"[^\"'\r\n{PRIVATE}]+([\"'])",
        "<secret>",
        ("get(url, auth=('svc', 'pw1'), timeout=3)", "get(url, auth=('svc', '<secret>'), timeout=3)"),
        frame="${1}{}${2}",
        gate=_SELDOM_TOLD,
    ),
    Rule(
        "secret_element",
        rf"([{PRIVATE}])[^<>\s{PRIVATE}]+(</(?:secret|credentials)>)",
        "<secret>",
        ("<secret>a1B2-c3_D4</secret> sent", "<secret><secret></secret> sent"),
        frame="${1}{}${2}",
        gate="</",
    ),
    Rule(
        "harmless_key",
        r"(?i)((?:idempotency|partition|primary|foreign|cache|sort|routing|group|row)[_ -]key"
        rf"{_CLOSE}{_EQUALS}{_OPEN})({_START})",
        KEEP,
        ("Idempotency-Key: a1b2c3d4-e5f6", "Idempotency-Key: a1b2c3d4-e5f6"),
        frame="${1}{}${2}",
        gate=_KEY_SAID,
    ),
    Rule(
        "key",
        rf"(?i)({B}key{_CLOSE}[ \t]*[=:][ \t]*{_OPEN}){_LOOKS_RANDOM}",
        "<secret>",
        ("key=abc123def456 refused", "key=<secret> refused"),
        frame="${1}{}",
        gate=_KEY_SAID,
    ),
)

_FILE_NAME = rf"[^\\/\s\"'<>:|*?{PRIVATE}]+"
_AT_SIGN = r"(?:@|%(?:25)?40|\\[uU]0040|&#(?:64|[xX]40);)"
_AT = rf"{_AT_SIGN}[^\s@/]+\."
_HOME = r"(?i)[\\/](?:home|users|documents and settings)[#-&0-9]?[\\/]"
_HOMES = (
    r"(?:^|[^A-Za-z0-9.])/"
    r"(?:home[0-9]?|(?:export|var|data|srv|mnt|nfs|net|usr|host)/home[0-9]?"
    r"|(?:(?:run/desktop/mnt/host|mnt|host_mnt|cygdrive)/(?:[a-z]/)?|[a-z]/)?Users)/"
)
_SPACED_HOME = r"/(?:home[0-9]?|Users)/[^/\s]+ "
_NAME_END = r"([\"'`,;)\]}]|[\r\n]|$)"
_DRIVE = rf"[:{PRIVATE}][\\/]+[UuDdHh]"
_PROMPT = r"@[A-Za-z0-9._-]+:[ ~/]"
_USER_KEY = (
    r"(?:user|User|USER|login|Login|LOGIN|LOGNAME|account|Account|ACCOUNT|owner|Owner|OWNER|author|Author|AUTHOR"
    r"|assignee|Assignee|ASSIGNEE)(?:[ _-]?(?:name|Name|NAME))?"
)
_QUOTED_USER_KEY = _USER_KEY.replace("|author|Author|AUTHOR", "")
"""Authors in quotes are mostly those of books."""
_USER_SAID = rf"{_USER_KEY}{_CLOSE}[ \t]*[:=]"
_LOGGED_IN = (
    r"session |logon denied|Accepted |invalid user |authenticating user |\) by |sudo|user [^\s(]+ by "
    r"|/(?:u|U|user|USER):"
)
_TECHNICAL_USER = (
    r"(?:(?:self|cls|this|request|req|args|kwargs|config|options|params|os|env|environ|ctx|context|session|event|payload|db"
    r"|models?|settings|process|current[_-]?user|user[_-]?name|user|login|data)(?:[.\[(]|{B})|(?:root|postgres|system|mysql|admin"
    r"|administrator|guest|nobody|daemon|www-data|nginx|apache|redis|ubuntu|debian|centos|fedora|ec2-user|vagrant|docker"
    r"|node|app|runner|jenkins|git|sa|sys|oracle|mongo|elastic|airflow|dagster|service|backend|frontend|platform|default"
    r"|anonymous|unknown|public|shared|internal|external|bot|github-actions|dependabot|renovate|assistant|agent|tool|model"
    r"|human|ai|llm|developer|owner|author|account|assignee|member|viewer|editor|me|null|none|nil|undefined|true|false|yes"
    r"|no|not|n/a|na|string|str|int|integer|bool|boolean|object|text|varchar|optional|required|must|should|can|cannot|is|was"
    r"|has|missing|invalid|incorrect|wrong|empty|unset|disabled|enabled|locked|blocked|expired|pending|denied|failed|failure"
    r"|error|ok|success|successful|succeeded|timeout|page|form|button|test|example|demo|sample|foo|bar|checking|savings"
    r"|[0-9]{1,4}(?::[0-9]{1,5})?|(?:user|test|agent|service|svc|bot|model|my|new|your)[._-][a-z0-9._-]+|(?:user|test|step|gpt|claude|llama|utf|sha"
    r"|ipv|md|http|agent|model|node|host|worker|task|tool|run|team|group|page|line|item|version|level|app|pod|job"
    r"|server|client|bot|role|org|account|level)[0-9]+|[a-z0-9_-]+\.(?:com|org|net|io|dev|py|js|ts|json|md|txt|ya?ml"
    r"|toml|go|rs|java|rb|sh|sql|csv|log|id|name)|[a-z0-9_.-]+_(?:id|ids|key|type|role|name|input|message|agent|team|prompt))"
    r"(?:[^A-Za-z0-9._@:/\\-]|[.:](?:\s|$)|\\+(?:[nrt]\x1b|[\"'])|$))"
).replace("{B}", B)
_AUTHOR = (
    r"(?:author|Author|AUTHOR|owner|Owner|OWNER|assignee|Assignee|ASSIGNEE|(?:user|User|USER)[ _-]?(?:name|Name|NAME))"
)
_WORD_END = r"([^A-Za-z0-9._(\[@:/\\-]|\\[nrt]\x1b|\.?$|\.\s)"
_FULL_NAME = r"\p{Lu}[\p{L}'-]+(?: \p{Lu}[\p{L}'-]*\.?){1,3}"
_LISTED_FILE = r"(?:drwx|-rw-|-rwx|-r--)[rwxsStT-]{6}[+@.]? +[0-9]+ +"
_SELDOM_NAMED = (
    r"/var/mail/|/var/spool/|/run/media/|is not in the sudoers|is not allowed to |Failed p|Failed k|Failed n|Failed g"
    r"|nvalid user |or user |rom user |: \(to |uid=|,ou=|,OU=|, ou=|, OU=|,CN=|, CN="
    r"|AccountName=|drwx|-rw-|-rwx|-r--"
)
_REVIEWER_SAID = r"(?:eviewer|pprover|eporter|ssigned[ _-]?[Tt]o)[\\\"']*\s*[:=]"
_REVIEWER = rf"{B}(?:[Rr]eviewer|[Aa]pprover|[Rr]eporter|[Aa]ssigned[ _-]?[Tt]o)[\\\"']*\s*[:=]\s*\\?[\"']"
_ROLE = (
    r"(?i:agents?|bots?|models?|assistant|team|group|engineer|developer|programmer|coder|analyst|researcher|scientist|writer|editor"
    r"|author|manager|reviewer|approver|reporter|tester|architect|planner|critic|specialist|expert|lead|leader|head|chief"
    r"|senior|junior|coordinator|designer|advisor|officer|director|executor|checker|validator|verifier|supervisor"
    r"|orchestrator|summarizer|auditor|consultant|strategist|evaluator|worker|generator|inspector|operator|admin"
    r"|administrator|user|owner|human|support|desk|queue|office|council|board|committee|department|service|services"
    r"|qa|hr|it|legal|finance|marketing|sales|security|ops|product|data|code|test|tests|unit|system|claude|gpt|gemini|llama"
    r"|opus|sonnet|haiku|console|default|not|no|none|unassigned|pending|approved|rejected|first|needs|self|config|main|py|js|ts|html"
    r"|json|xml|reporters?|reviewers?)"
)
_LETTER = r"A-Za-z\x{00C0}-\x{024F}\x{0370}-\x{06FF}\x{1E00}-\x{1FFF}"
"""Of scripts that put spaces between words: what stands beside an address in Chinese or Japanese is no part of it."""
_PEOPLE = (
    Rule(
        "harmless_remote",
        r"(^|[^A-Za-z0-9._%+-])git@([a-z0-9])",
        KEEP,
        ("git@git.example: denied; ssh -T git@git.example", "git@git.example: denied; ssh -T git@git.example"),
        frame="${1}{}git@{}${2}",
        gate="git@",
    ),
    Rule(
        "not_an_email",
        r"(?i)(@)((?:[0-9.]+x\.[a-z]+|[a-z0-9-]+\.(?:png|jpe?g|svg|gif|js|ts|json|ya?ml|txt))(?:[^a-z0-9.-]|\.?$|\.[^a-z0-9]))",
        KEEP,
        ("icon@2x.png and run@main.js", "icon@2x.png and run@main.js"),
        frame="${1}{}${2}",
        gate=_AT,
    ),
    Rule(
        "email",
        rf"(?i)[{_LETTER}0-9_%+](?:[{_LETTER}0-9._%+'-]*[{_LETTER}0-9_%+-])?{_AT_SIGN}(?:[{_LETTER}0-9-]+\.)+[{_LETTER}]{{2,}}"
        r"|[\p{L}0-9._%+-]+@(?:[\p{L}0-9-]+\.)+[\x{0900}-\x{D7FF}]{2,}",
        "<email>",
        ("mail to ann.b+x@mail.example.org bounced", "mail to <email> bounced"),
        gate=_AT,
    ),
    Rule(
        "email_quoted",
        r"\\?\"[\p{L}0-9._%+'-]+(?: [\p{L}0-9._%+'-]+){0,3}\\?\"@(?:[\p{L}0-9-]+\.)+\p{L}{2,}",
        "<email>",
        ('mail to "ann baker"@example.org now', "mail to <email> now"),
        gate=r"\"@[^\s@/]+\.",
    ),
    Rule(
        "email_local",
        r"((?:[Mm]ail|MAIL|mailto)(?:[ _-]?(?i:address))?[\\\"']*\s*[:=]\s*[\\\"'<]*)[A-Za-z0-9._%+-]+@localhost",
        "<email>",
        ("email: annb@localhost bounced", "email: <email> bounced"),
        frame="${1}{}",
        gate="@localhost",
    ),
    Rule(
        "name_before_email",
        rf"(?m)((?:^|[\s\x1b,;(\"'=:\[])[\"']?){_FULL_NAME}([\\\"']{{0,2}} ?<[{PRIVATE}]>)",
        "<name>",
        ("Author: Ann B. Baker <ann@example.org>", "Author: <name> <<email>>"),
        frame="${1}{}${2}",
        gate=rf"<[{PRIVATE}]>",
    ),
    Rule(
        "email_spelled_out",
        r"(?i)[a-z0-9_%+](?:[a-z0-9._%+-]*[a-z0-9_%+-])? ?(?:\[at\]|\(at\)) ?[a-z0-9-]+(?:(?:\.| ?(?:\[dot\]"
        r"|\(dot\)) ?)[a-z0-9-]+)+",
        "<email>",
        ("mail ann.b [at] example [dot] org now", "mail <email> now"),
        gate=r"(?i)(?:\[at\]|\(at\)) ?[a-z0-9-]",
    ),
    Rule(
        "ssh_user",
        rf"({B}(?:sshfs|ssh|scp|sftp|rsync|mosh)\s(?:[^\r\n|;@]*?\s)?)[A-Za-z0-9._-]+(@)",
        "<user>",
        ("ssh -v annb@build01 true", "ssh -v <user>@build01 true"),
        frame="${1}{}${2}",
        gate=r"(?:sshfs|ssh|scp|sftp|rsync|mosh)\s",
    ),
    Rule(
        "harmless_prompt",
        r"(?m)(^|[\s\x1b\"'])((?:root|app|runner|jenkins|ubuntu|postgres|node|git|user)@[A-Za-z0-9._-]+:[ ~/])",
        KEEP,
        ("root@4f66ad9a0b2e:/app# ls", "root@4f66ad9a0b2e:/app# ls"),
        frame="${1}{}${2}",
        gate=_PROMPT,
    ),
    Rule(
        "prompt_user",
        r"(?m)(^|[\s\x1b\"'])[A-Za-z0-9._-]+(@[A-Za-z0-9._-]+:(?: Permission denied|[~/][^\s:]*[$#%](?:\s|$)))",
        "<user>",
        (
            "annb@build01: Permission denied annb@build01:~/x$ ls",
            "<user>@build01: Permission denied <user>@build01:~/x$ ls",
        ),
        frame="${1}{}${2}",
        gate=_PROMPT,
    ),
    Rule(
        "denied_user",
        r"(?i)((?:(?:access|permission) denied|(?:authentication|login) failed|failed password) for (?:invalid )?user )"
        rf"[^\s\"'`\\,;:{PRIVATE}][^\s\"'`,;:{PRIVATE}]*",
        "<user>",
        ("Permission denied for user annb, bye", "Permission denied for user <user>, bye"),
        frame="${1}{}",
        gate=r"(?i)for (?:invalid )?user ",
    ),
    Rule(
        "harmless_login",
        r"((?:session (?:opened|closed) for user|logon denied(?: for)? user|Accepted [a-z/-]+ for|invalid user"
        rf"|authenticating user|\) by) )((?:root|nobody|postgres|user|name|or|and|is|was|input|id){B}|\()",
        KEEP,
        ("session closed for user root", "session closed for user root"),
        frame="${1}{}${2}",
        gate=_LOGGED_IN,
    ),
    Rule(
        "harmless_visitor",
        r"((?:Failed [pkng][a-z/-]* for|[Ii]nvalid user|from user|[Ff]or user) )((?:root|nobody|postgres"
        r"|user|name|or|and|is|was|input|id|data|quer(?:y|ies)|messages?|requests?"
        rf"|info(?:rmation)?|ids|events?|sessions?|records?|content|profiles?|feedback|accounts?|action|stor(?:y|ies)|authentication|access|permissions?|prompts?|agents?|admin|test|settings|experience){B})",
        KEEP,
        ("results for user input from 3 tools", "results for user input from 3 tools"),
        frame="${1}{}${2}",
        gate=_SELDOM_NAMED,
    ),
    Rule(
        "logged_in",
        r"((?:session (?:opened|closed) for user|logon denied(?: for)? user|Accepted [a-z/-]+ for"
        r"|(?:from|by) (?:authenticating|invalid) user) )"
        rf"[A-Za-z0-9_][^\s\"'`,;:()<>{PRIVATE}]*( from| by|\(uid=|[ ,.]|$)",
        "<user>",
        ("Accepted publickey for annb from port 22", "Accepted publickey for <user> from port 22"),
        frame="${1}{}${2}",
        gate=_LOGGED_IN,
    ),
    Rule(
        "visitor",
        rf"({B}(?:[Ii]nvalid user|[Ff]or user|from user) )[a-z_][A-Za-z0-9._-]*( from [A-Za-z0-9.:-]*[0-9.]"
        rf"|(?: port)? [0-9]{{1,3}}\.)"
        rf"|({B}(?:Failed (?:password|publickey|none|keyboard-interactive/pam"
        rf"|gssapi-with-mic) for(?: invalid user)?) )[A-Za-z_][^\s\"'`,;:()<>{PRIVATE}]*( from )"
        rf"|({B}su(?:\[[0-9]+\])?: \(to [^\s)]+\) )[a-z_][A-Za-z0-9._-]*( on )",
        "<user>",
        ("Invalid user annb from 10.1.2.3", "Invalid user <user> from 10.1.2.x"),
        frame="${1}${3}${5}{}${2}${4}${6}",
        gate=_SELDOM_NAMED,
    ),
    Rule(
        "not_in_sudoers",
        rf"({B}[Uu]ser )[a-z_][a-z0-9._-]*( is not (?:in the sudoers|allowed to (?:execute|run)))",
        "<user>",
        ("user annb is not in the sudoers file", "user <user> is not in the sudoers file"),
        frame="${1}{}${2}",
        gate=_SELDOM_NAMED,
    ),
    Rule(
        "harmless_file_owner",
        rf"({_LISTED_FILE})((?:root|daemon|nobody|www-data|nginx|app|node|runner|user|ubuntu|postgres|vscode|jovyan|agent|sandbox|[0-9]+){B})",
        KEEP,
        ("-rw-r--r-- 1 root root 17 a", "-rw-r--r-- 1 root root 17 a"),
        frame="${1}{}${2}",
        gate=_SELDOM_NAMED,
    ),
    Rule(
        "file_owner",
        rf"({_LISTED_FILE})[A-Za-z_][A-Za-z0-9._-]*( +)[A-Za-z_][A-Za-z0-9._-]*( +[0-9])",
        "<user>",
        ("drwxr-xr-x 2 annb annb 64 src", "drwxr-xr-x 2 <user> <user> 64 src"),
        frame="${1}{}${2}{}${3}",
        gate=_SELDOM_NAMED,
    ),
    Rule(
        "logged_in_by",
        r"(sudo(?:\[[0-9]+\])?:\s+|(?:user [^\s(]{1,40}|\)) by )"
        r"[a-z_][A-Za-z0-9._-]*(\s:\s|\(uid=)",
        "<user>",
        ("sudo: annb : TTY=pts/0", "sudo: <user> : TTY=pts/0"),
        frame="${1}{}${2}",
        gate=_LOGGED_IN,
    ),
    Rule(
        "process_user",
        rf"({B}e?uid=[0-9]+\()[a-z_][A-Za-z0-9._-]*(\))",
        "<user>",
        ("uid=1000(annb) gid=1000(staff)", "uid=1000(<user>) gid=1000(staff)"),
        frame="${1}{}${2}",
        gate=_SELDOM_NAMED,
    ),
    Rule(
        "directory_user",
        rf"({B}(?:uid=|UID=|(?:cn|CN)=))[^\s,=\"'<>{PRIVATE}][^,=\"'<>{PRIVATE}]{{0,60}}(, ?(?:ou|OU|CN)="
        rf"(?i:people|users|staff|accounts|employees))",
        "<user>",
        ("bind uid=annb,ou=people,dc=example failed", "bind uid=<user>,ou=people,dc=example failed"),
        frame="${1}{}${2}",
        gate=_SELDOM_NAMED,
    ),
    Rule(
        "windows_user",
        rf"(\s/(?:u|U|user|USER):)[^\s\"'/{PRIVATE}]+",
        "<user>",
        (r"runas /user:CORP\annb cmd", "runas /user:<user> cmd"),
        frame="${1}{}",
        gate=_LOGGED_IN,
    ),
    Rule(
        "home_quoted",
        rf"([\"']/(?:home|Users)/)[^/\"'\r\n{PRIVATE}]+",
        "<user>",
        ("open '/home/ann b/x y.csv'", "open '/home/<user>/x y.csv'"),
        frame="${1}{}",
        gate=_HOME,
    ),
    Rule(
        "home_posix_spaced",
        rf"({_HOMES})(?:[^/\s\"'<>:;,|*?)(\]\[{PRIVATE}]+(?: \p{{Lu}}[\p{{L}}.'-]*){{1,3}}(/)|{_FULL_NAME}{_NAME_END})",
        "<user>",
        ("open /home/Ann B/main.py, '/Users/Ann Baker'", "open /home/<user>/main.py, '/Users/<user>'"),
        frame="${1}{}${2}${3}",
        gate=_HOME,
        also=_SPACED_HOME,
    ),
    Rule(
        "home_posix_known",
        rf"({_HOMES})[^/\s\"'<>:;,|*?)(\]\[{PRIVATE}]+(?: [^/\s\"'<>:;,|*?)(\]\[{PRIVATE}]+){{1,3}}"
        r"(/(?:Library|AppData|Desktop|Documents|Downloads|Pictures|Music|Movies|Videos|\.[a-z]))",
        "<user>",
        ("open /home/ann van b/.cache/x", "open /home/<user>/.cache/x"),
        frame="${1}{}${2}",
        gate=_HOME,
        also=_SPACED_HOME,
    ),
    Rule(
        "home_tilde",
        r"((?:^|[\s\x1b\"'=(:])~)[a-z_][a-z0-9_.-]{1,31}(/)",
        "<user>",
        ("cd ~annb/src", "cd ~<user>/src"),
        frame="${1}{}${2}",
        gate=r"~[a-z_][a-z0-9_.-]+/",
    ),
    Rule(
        "home_share",
        rf"(?i)(\\\\[a-z0-9.$_\x1b-]+(?:\\+[a-z0-9.$_\x1b-]+)?\\+(?:home|users)\$?\\+){_FILE_NAME}",
        "<user>",
        (r"open \\srv01\users\annb\x", r"open \\srv01\users\<user>\x"),
        frame="${1}{}",
        gate=_HOME,
        also=r"\\\\",
    ),
    Rule(
        "home_mounted",
        rf"((?:/\.\.|(?:wsl|ssh-remote|(?:dev|attached)-container)(?:\+|%2B)[A-Za-z0-9.%+-]+|//wsl(?:\$|\.localhost)/[A-Za-z0-9.-]+|/Volumes/[^/\r\n]+)/(?:home|Users)/)[^/\s\"'<>:;,|*?)(\]\[{PRIVATE}]+",
        "<user>",
        ("vscode-remote://wsl+ubuntu/home/annb/x", "vscode-remote://wsl+ubuntu/home/<user>/x"),
        frame="${1}{}",
        gate=_HOME,
        also=r"/\.\./|wsl|ssh-remote|-container|/Volumes/",
    ),
    Rule(
        "mailbox",
        rf"(/var/(?:spool/)?mail/|/var/spool/cron/(?:crontabs/)?|/run/media/)[a-z_][^/\s\"'<>:;,|*?)(\]\[{PRIVATE}]*",
        "<user>",
        ("You have mail in /var/mail/annb now", "You have mail in /var/mail/<user> now"),
        frame="${1}{}",
        gate=_SELDOM_NAMED,
    ),
    Rule(
        "home_posix",
        rf"({_HOMES})"
        rf"[^/\s\"'<>:;,|*?)(\]\[{PRIVATE}]+",
        "<user>",
        ("open /home/annb/src/main.py", "open /home/<user>/src/main.py"),
        frame="${1}{}",
        gate=_HOME,
    ),
    Rule(
        "home_windows_spaced",
        rf"(?i)((?:[a-z]:|[{PRIVATE}])[\\/]+(?:users|home|documents and settings)[\\/]+)"
        rf"(?:{_FILE_NAME}(?: {_FILE_NAME}){{0,3}}([\\/])"
        rf"|(?-i:{_FULL_NAME}){_NAME_END})",
        "<user>",
        ("C:\\Users\\Ann B\\data.csv C:\\Users\\Ann Baker\n", "C:\\Users\\<user>\\data.csv C:\\Users\\<user>\n"),
        frame="${1}{}${2}${3}",
        gate=_HOME,
        also=_DRIVE,
    ),
    Rule(
        "home_windows",
        rf"(?i)((?:[a-z]:|[{PRIVATE}])[\\/]+(?:users|home|documents and settings)[\\/]+){_FILE_NAME}",
        "<user>",
        (r"cd C:\\Users\\annb", r"cd C:\\Users\\<user>"),
        frame="${1}{}",
        gate=_HOME,
        also=_DRIVE,
    ),
    Rule(
        "home_encoded",
        rf"(?i)(%2F(?:home|users)%2F)[^%/\s\"'<>&{PRIVATE}]+",
        "<user>",
        ("?path=%2Fhome%2Fannb%2Fx", "?path=%2Fhome%2F<user>%2Fx"),
        frame="${1}{}",
        gate=r"(?i)%2F(?:home|users)%2F",
    ),
    Rule(
        "harmless_user",
        rf"({B}{_USER_KEY}{_CLOSE}{_EQUALS}{_OPEN})((?i:{_TECHNICAL_USER}))",
        KEEP,
        ("create(user=self.user, login=login, owner: null)", "create(user=self.user, login=login, owner: null)"),
        frame="${1}{}${2}",
        gate=_USER_SAID,
    ),
    Rule(
        "organization",
        rf"({B}{_AUTHOR}{_CLOSE}{_EQUALS}{_OPEN})((?i:[^\"'\r\n,;<{PRIVATE}]*{B}(?:team|group|inc|corp(?:oration)?|ltd|llc|gmbh"
        r"|foundation|project|authors|contributors|community|labs?|platform|services?|engineering|department|science"
        rf"|ops|security|company|agent|bot|system|model|assistant){B}))",
        KEEP,
        ("Owner: Platform Team", "Owner: Platform Team"),
        frame="${1}{}${2}",
        gate=_USER_SAID,
    ),
    Rule(
        "harmless_quoted_user",
        rf"({B}(?:{_QUOTED_USER_KEY}|role|Role|ROLE)[ \t]+\\*['\"`])((?i:{_TECHNICAL_USER}|(?:active|inactive"
        rf"|message|input|prompt|query"
        r"|data|content|field|name|id|email|profile|session|role|reader|writer|type|created|deleted|updated)['\"`]))",
        KEEP,
        ("role 'admin' or user 'root'", "role 'admin' or user 'root'"),
        frame="${1}{}${2}",
        gate=rf"(?:{_QUOTED_USER_KEY}|role|Role|ROLE)[ \t]+\\*['\"`]",
    ),
    Rule(
        "harmless_account",
        r"(AccountName=)([a-z0-9]{3,24}(?:[;&\s\"']|$))",
        KEEP,
        ("AccountName=store1;x", "AccountName=store1;x"),
        frame="${1}{}${2}",
        gate=_SELDOM_NAMED,
    ),
    Rule(
        "quoted_user",
        rf"({B}(?:{_QUOTED_USER_KEY}{_CLOSE}(?:{_EQUALS}|[ \t]+){_OPEN}|(?:role|Role|ROLE)[ \t]+\\*)['\"`])"
        rf"(?:[A-Za-z0-9.-]{{1,30}}\\{{1,2}})?[^'\"`\\\r\n{PRIVATE}]{{1,80}}",
        "<user>",
        ('authentication failed for user "annb"', 'authentication failed for user "<user>"'),
        frame="${1}{}",
        gate=rf"(?:{_QUOTED_USER_KEY}{_CLOSE}(?:{_EQUALS}|[ \t]+){_OPEN}|(?:role|Role|ROLE)[ \t]+\\*)['\"`]",
    ),
    Rule(
        "harmless_role",
        rf"({_REVIEWER}[^\"'\\\r\n{PRIVATE}]*?{B})({_ROLE}{B})",
        KEEP,
        ('"reviewer": "Senior Engineer"', '"reviewer": "Senior Engineer"'),
        frame="${1}{}${2}",
        gate=_REVIEWER_SAID,
    ),
    Rule(
        "reviewer",
        rf"({_REVIEWER})(?:{_FULL_NAME}|[a-z]{{2,20}}\.[a-z]{{2,24}})([\\\"'])",
        "<user>",
        ('"reviewer": "Ann Baker", "n": 3', '"reviewer": "<user>", "n": 3'),
        frame="${1}{}${2}",
        gate=_REVIEWER_SAID,
    ),
    Rule(
        "told_reviewer",
        rf"(?m)({B}(?:[Rr]eviewer|[Aa]pprover|[Aa]ssigned[ _][Tt]o)[ \t]*:[ \t]*)"
        rf"[a-z]{{2,20}}\.[a-z]{{2,24}}([ \t]*(?:$|[\r\n,;|]|\\[nrt]\x1b))",
        "<user>",
        ("assigned_to: ann.baker, n: 3", "assigned_to: <user>, n: 3"),
        frame="${1}{}${2}",
        gate=_REVIEWER_SAID,
    ),
    Rule(
        "person_name",
        rf"(?i)({B}(?:full|first|last|given|family|sur|customer)[_-]?name[\\\"']*\s*[:=]\s*[\\]?[\"'])[^\"'\\\r\n{PRIVATE}]{{1,80}}",
        "<name>",
        ('{"full_name": "Ann B"}', '{"full_name": "<name>"}'),
        frame="${1}{}",
        gate=r"(?i)name[\\\"']*\s*[:=]\s*[\\]?[\"']",
    ),
    Rule(
        "connection_user",
        rf"(?i)(;\s*(?:user id|uid|user)\s*=\s*)[^;\s\"'<>{PRIVATE}]+",
        "<user>",
        ("Server=db;User Id=annb;Encrypt=true", "Server=db;User Id=<user>;Encrypt=true"),
        frame="${1}{}",
        gate=r"(?i);\s*(?:user id|uid|user)\s*=",
    ),
    Rule(
        "assigned_user",
        rf"({B}(?:user|User|USER|login|Login|LOGIN|LOGNAME)(?:[_-]?(?:name|Name|NAME))?=){_START}{_REST}*",
        "<user>",
        ("login failed: user=annb db=prod", "login failed: user=<user> db=prod"),
        frame="${1}{}",
        gate=_USER_SAID,
    ),
    Rule(
        "assigned_owner",
        rf"((?:{B}|_){_USER_KEY}=)(?i:[a-z]{{2,20}}[._][a-z][a-z0-9]{{1,24}}|[a-z]{{3,20}}[0-9]{{1,4}}){_WORD_END}",
        "<user>",
        ("account=ann_baker is locked", "account=<user> is locked"),
        frame="${1}{}${2}",
        gate=_USER_SAID,
    ),
    Rule(
        "told_user",
        rf"({B}{_USER_KEY}[ \t]*:[ \t]*)(?i:[a-z]{{1,20}}\.[a-z]{{2,24}}[0-9]{{0,4}}"
        rf"|[a-z]{{3,20}}[0-9]{{1,4}}){_WORD_END}",
        "<user>",
        ("user: ann.baker, n: 3", "user: <user>, n: 3"),
        frame="${1}{}${2}",
        gate=_USER_SAID,
    ),
    Rule(
        "told_login",
        rf"(?m)({B}(?:(?:user|User|USER)[_-]?(?:name|Name|NAME)|(?:login|Login|LOGIN)(?:[_-]?(?:name|Name|NAME))?|assignee|Assignee"
        r"|ASSIGNEE)[ \t]*:[ \t]*)[A-Za-z][A-Za-z0-9._-]{1,40}([ \t]*(?:$|[\r\n,;|&)}\]]|\\[nrt]\x1b"
        r"|[ \t][A-Za-z_.-]+[:=]))",
        "<user>",
        ("username: annb, host: db", "username: <user>, host: db"),
        frame="${1}{}${2}",
        gate=_USER_SAID,
    ),
    Rule(
        "told_name",
        rf"(?m)({B}{_AUTHOR}[ \t]*[:=][ \t]*){_FULL_NAME}([ \t]*(?:$|[\r\n,;<(|]))",
        "<name>",
        ("Author: Ann Baker\nDate: 3", "Author: <name>\nDate: 3"),
        frame="${1}{}${2}",
        gate=_USER_SAID,
    ),
    Rule(
        "user_element",
        rf"(<(?:(?:user|User|USER)-?(?:name|Name|NAME)|login|Login|owner|assignee|author)>)[^<>\s{PRIVATE}][^<>{PRIVATE}]{{0,79}}(</)",
        "<user>",
        ("<db><username>annb</username></db>", "<db><username><user></username></db>"),
        frame="${1}{}${2}",
        gate=r"(?:name|Name|NAME|login|Login|owner|assignee|author)>",
    ),
)

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_HEX = r"[0-9a-f]{1,4}"
_DOTTED = r"[0-9]\.[0-9]+\.[0-9]+\.[0-9]"
_SEPARATED = r"(?i)[:-](?:[0-9a-f]{1,4}[:-]){4}"
_MAC_DOTTED = r"(?i)\.[0-9a-f]{4}\.[0-9a-f]{4}"
_NUMBERS = (
    Rule(
        "harmless_ipv4",
        rf"((?:^|[\s\x1b\"'(;])[A-Z][A-Za-z]+/|{B}[vV]|[vV]ersion[ =:]*)([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+)"
        r"|([A-Za-z_]/|[A-Za-z0-9\]][~=!<>]=|[A-Za-z]-)([0-9]\.[0-9]+\.[0-9]+\.[0-9]+)"
        r"|(^|[^A-Za-z0-9_.])([0-2](?:\.[0-9]+){4,}|255\.255\.[0-9]+\.0|[0-9]+\.[0-9]+\.[0-9]+\.0/[0-9])",
        KEEP,
        (
            "Chrome/126.0.0.0 v1.2.3.4 x==4.8.0.76 db.example/10.1.2.3",
            "Chrome/126.0.0.0 v1.2.3.4 x==4.8.0.76 db.example/10.1.2.x",
        ),
        frame="${1}${3}${5}{}${2}${4}${6}",
        gate=_DOTTED,
    ),
    Rule(
        "prerelease",
        r"(^|[^A-Za-z0-9_.])([0-9]+(?:\.[0-9]+){3}[-+._]?(?:(?:rc|alpha|beta|dev|pre|preview|post|snapshot)[.-]?[0-9]*"
        rf"|(?:a|b|m|build)[.-]?[0-9]+){B})",
        KEEP,
        ("pinned to 1.2.3.4-rc1", "pinned to 1.2.3.4-rc1"),
        frame="${1}{}${2}",
        gate=_DOTTED,
        also=r"\.[0-9]+\.[0-9]+[-+._]?[a-z]",
    ),
    Rule(
        "decimals",
        r"([0-9]\.)([0-9]{6,})",
        KEEP,
        ("area 86.41111111111111110", "area 86.41111111111111110"),
        frame="${1}{}${2}",
    ),
    Rule(
        "local_ipv4",
        rf"({B})(127\.0\.0\.1|0\.0\.0\.0|255\.255\.255\.255){B}",
        KEEP,
        ("bind 127.0.0.1:80", "bind 127.0.0.1:80"),
        frame="${1}{}${2}",
        gate=_DOTTED,
    ),
    Rule(
        "host_ipv4",
        rf"({B}ip-(?:[0-9]{{1,3}}-){{3}})[0-9]{{1,3}}{B}",
        "x",
        ("ip-10-1-2-3.ec2.internal down", "ip-10-1-2-x.ec2.internal down"),
        frame="${1}{}",
        gate="ip-[0-9]",
    ),
    Rule(
        "ipv4",
        rf"(^|[^A-Za-z0-9_.{KEEP}])((?:{_OCTET}\.){{3}}){_OCTET}{B}",
        "x",
        ("connect 10.1.2.3:5432 refused", "connect 10.1.2.x:5432 refused"),
        frame="${1}${2}{}",
        gate=_DOTTED,
    ),
    Rule(
        "mac",
        rf"(?i){B}(?:[0-9a-f]{{2}}[:-]){{5}}[0-9a-f]{{2}}{B}",
        "<mac>",
        ("eth0 aa:bb:cc:00:11:22 down", "eth0 <mac> down"),
        gate=_SEPARATED,
    ),
    Rule(
        "mac_dotted",
        rf"(?i)({B}(?:mac|hwaddr|ether|lladdr)(?:[ _-]?addr(?:ess)?)?[\\\"']*[ =:]+[\\\"']*)"
        rf"[0-9a-f]{{4}}\.[0-9a-f]{{4}}\.[0-9a-f]{{4}}{B}",
        "<mac>",
        ("mac address aabb.ccdd.0011 down", "mac address <mac> down"),
        frame="${1}{}",
        gate=_MAC_DOTTED,
    ),
    Rule(
        "mac_bare",
        rf"{B}[0-9a-fA-F]{{4}}\.[0-9a-fA-F]{{4}}\.[0-9a-fA-F]{{4}}{B}",
        "<mac>",
        ("port 001a.2b3c.4d5e down", "port <mac> down"),
        find=str,
        needs=("[a-fA-F]", "[0-9]"),
        gate=_MAC_DOTTED,
    ),
    Rule(
        "ipv6",
        rf"(?i){B}({_HEX}:{_HEX}:{_HEX}):(?:{_HEX}:){{4}}{_HEX}{B}",
        ":",
        ("from 2001:db8:1:2:3:4:5:6 port", "from 2001:db8:1:: port"),
        frame="${1}:{}",
        gate=_SEPARATED,
    ),
    Rule(
        "ipv6_short",
        rf"(?i){B}([0-9a-f]{{4}}(?::{_HEX}){{0,2}})(?::{_HEX}){{0,3}}::(?:{_HEX}(?::{_HEX}){{0,5}}{B})?",
        ":",
        ("from [fe80::1c2:3]:80", "from [fe80::]:80"),
        frame="${1}:{}",
        gate=r"(?i)[0-9a-f]::",
    ),
    Rule(
        "iban",
        rf"{B}(?:[A-Z]{{2}}[0-9]{{2}}(?:[ -]?[A-Z0-9]{{4}}){{2,7}}(?:[ -]?[A-Z0-9]{{1,4}})?"
        rf"|[a-z]{{2}}[0-9]{{2}}(?:[ -][a-z0-9]{{4}}){{2,7}}(?:[ -][a-z0-9]{{1,4}})?|(?:iban"
        rf"|IBAN)[\\\"' :=]{{1,5}}[a-z]{{2}}[0-9]{{2}}[a-z0-9]{{11,30}}){B}",
        "<iban>",
        ("to DE89 3704 0044 0532 0130 00 now", "to <iban> now"),
        find=find_iban,
        gate=rf"{B}(?:[A-Z]{{2}}[0-9]{{2}}[ -]?[A-Z0-9]{{4}}|[a-z]{{2}}[0-9]{{2}}[ -][a-z0-9]{{4}}[ -]|(?:iban"
        rf"|IBAN)[\\\"' :=])",
    ),
    Rule(
        "card",
        rf"(?:^|[^A-Za-z0-9{KEEP}]|%(?:B|2[0-9A-F]|3[0-9A-F]))([2-6](?:[ -]?[0-9]){{12,30}}"
        rf"|[2-6][0-9]{{3}}(?:(?:[._+/\s\x{{2010}}-\x{{2014}}]|  )[0-9]{{4}}){{3}}){B}",
        "<card>",
        ("card 4111 1111 1111 1111 declined", "card <card> declined"),
        find=find_card,
        gate=r"(?:^|[^A-Za-z0-9]|%[B23][0-9A-F]?)[2-6](?:(?:[ -]?[0-9]){12}"
        r"|[0-9]{3}(?:(?:[._+/\s\x{2010}-\x{2014}]|  )[0-9]{4}){2}(?:[._+/\s\x{2010}-\x{2014}]|  )[0-9])",
    ),
    Rule(
        "card_code",
        rf"(?i)({B}(?:cvv2?|cvc2?|pin)[\\\"']*\s*[:=]\s*[\\\"']*)[0-9]{{3,6}}{B}",
        "<secret>",
        ('{"cvc": "737"}', '{"cvc": "<secret>"}'),
        frame="${1}{}",
    ),
    Rule(
        "one_time_code",
        rf"(?i)({B}(?:otp|one-time|verification|2fa|mfa) (?:code|password|pin)(?: is)?:? )[0-9]{{4,8}}{B}",
        "<secret>",
        ("your OTP code is 482913 now", "your OTP code is <secret> now"),
        frame="${1}{}",
    ),
    Rule(
        "birth",
        rf"(?i)((?:date[_ -]?of[_ -]?birth|birth[_ -]?da(?:te|y)|geburtsdatum|{B}dob)[\\\"']*\s*[:=]\s*[\\\"']*)"
        r"[0-9]{1,4}[./-][0-9]{1,2}[./-][0-9]{1,4}",
        "<date_of_birth>",
        ('"date_of_birth": "1984-05-17"', '"date_of_birth": "<date_of_birth>"'),
        frame="${1}{}",
        gate=r"(?i)birth|geburtsdatum|dob",
    ),
    Rule(
        "passport",
        rf"(?i)({B}passport(?:[ _-]?(?:no|nr"
        rf"|number))?\.?[\\\"']*\s*[:=# ]\s*[\\\"']*)[A-Z]{{0,2}}[0-9][A-Z0-9]{{6,8}}{B}",
        "<passport>",
        ("passport no: C01X00T47 expired", "passport no: <passport> expired"),
        frame="${1}{}",
        gate=r"(?i)passport",
    ),
    Rule(
        "told_ssn",
        rf"(?i)({B}(?:ssn|social security(?: number| no\.?)?)[\\\"']*[ :=#]*[\\\"']*)[0-9]{{3}}[ .-]?[0-9]{{2}}"
        rf"[ .-]?[0-9]{{4}}{B}",
        "<ssn>",
        ("ssn=123456789 bad", "ssn=<ssn> bad"),
        frame="${1}{}",
        gate=r"(?i)ssn|cial sec",
    ),
    Rule(
        "ssn",
        rf"{B}[0-8][0-9]{{2}}-[0-9]{{2}}-[0-9]{{4}}{B}",
        "<ssn>",
        ("ssn 123-45-6789 bad", "ssn <ssn> bad"),
        gate="-[0-9]{2}-[0-9]{4}",
    ),
    Rule(
        "phone_international",
        r"(^|[^0-9A-Za-z.+])(?:(?:\+|%2B)[1-9][0-9]{0,2}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?"
        r"(?:[0-9](?:[ .-]?[0-9]{2}){4}|[0-9]{2,4}(?:[ .-]?[0-9]{2,4}){2,4}|[0-9](?:[ -][0-9]{3,4}){2}(?: [0-9]{2})?)"
        rf"|\(\+(?:[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58])\) ?"
        rf"(?:\([0-9]{{1,4}}\) ?|[1-9][0-9]{{0,3}}[ -])"
        rf"[0-9](?:[ -]?[0-9]){{6,9}}{B})",
        "<phone>",
        ("call +49 30 1234 5678 back", "call <phone> back"),
        frame="${1}{}",
        gate=r"(?:\+|%2B)[1-9][0-9 .()-]{6}",
    ),
    Rule(
        "phone_told",
        rf"(?i)({B}(?:tel(?:efon|ephone)?|phone|mobile?|fax|handy|whatsapp)(?:[ _]?(?:number|no|nr))?"
        rf"[.:= \"'\\]{{1,4}})"
        rf"\+?\(?[0-9](?:[ ()/.-]{{0,3}}[0-9]){{5,14}}{B}",
        "<phone>",
        ("Tel.: 0171 1234567, fax=030/1234567", "Tel.: <phone>, fax=<phone>"),
        frame="${1}{}",
        gate=r"(?i)(?:tel(?:efon|ephone)?|phone|mobile?|fax|handy|whatsapp)(?:[ _]?(?:number|no|nr))?"
        r"[.:= \"'\\]{1,4}\+?\(?[0-9]",
    ),
    Rule(
        "phone_european",
        rf"(^|[\s\x1b\"'(:,])(?:00[1-9][0-9]{{1,2}}[ -][0-9]{{2,4}}[ -][0-9]{{3,8}}"
        rf"|0[1-9][0-9]{{1,3}} [0-9]{{3,4}} [0-9]{{4}}|0[1-9][0-9]{{1,3}}/[0-9]{{5,8}}"
        rf"|07[0-9]{{3}} [0-9]{{6}}|01[5-7][0-9][ -][0-9]{{7,8}}|0[1-9]0?-[0-9]{{4}}-[0-9]{{4}}"
        rf"){B}",
        "<phone>",
        ("call 020 7946 0187, 030/1234567 or 07911 123456", "call <phone>, <phone> or <phone>"),
        frame="${1}{}",
        gate=r"00[1-9][0-9]{1,2}[ -][0-9]{2,4}[ -]|0[1-9][0-9]{1,3}(?: [0-9]{3,4} [0-9]{4}|/[0-9]{5}|[ -][0-9]{6})"
        r"|0[1-9]-[0-9]{4}-[0-9]{4}|0[1-9]0-[0-9]{4}-[0-9]{4}",
    ),
    Rule(
        "phone_area",
        rf"(^|[\s\x1b\"':,])(?:\(0[1-9][0-9]{{0,3}}\) [0-9]{{3,5}}[ -]"
        rf"|\([1-9][0-9]{{1,3}}\) [0-9]{{4,5}}-)[0-9]{{4}}{B}",
        "<phone>",
        ("call (02) 9374 4000 back", "call <phone> back"),
        frame="${1}{}",
        gate=r"\) [0-9]{3}",
    ),
    Rule(
        "phone_national",
        rf"(^|[^0-9A-Za-z.+-])(?:1[ .-])?(?:\([2-9][0-9]{{2}}\) ?|[2-9][0-9]{{2}}[.-])[2-9][0-9]{{2}}[.-][0-9]{{4}}{B}",
        "<phone>",
        ("call (415) 555-2671 back", "call <phone> back"),
        frame="${1}{}",
        gate=r"[.)-] ?[2-9][0-9]{2}[.-][0-9]{4}",
    ),
)

_STREET = r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Terrace|Way|Parkway|Pkwy|Highway)"
_ADDRESSES = (
    Rule(
        "harmless_street",
        rf"((?:Google|Hard|Test|Data|Disk|Shared|Team|Flash|Either|One|Two|Three|Four|Milky) )({_STREET}{B})",
        KEEP,
        ("copied 10 Google Drive files", "copied 10 Google Drive files"),
        frame="${1}{}${2}",
    ),
    Rule(
        "street_american",
        rf"(^|[^0-9A-Za-z.:/#-])[1-9][0-9]{{0,5}} (?:[NSEW]\.? )?(?:\p{{Lu}}[a-z]+|[0-9]{{1,3}}(?:st|nd|rd|th)) "
        rf"(?:\p{{Lu}}[a-z]+ )?"
        rf"{_STREET}{B}\.?(?: [NSEW]{{1,2}}{B})?(?:,? (?:Apt|Suite|Ste|Unit)\.? ?[0-9A-Za-z-]+)?",
        "<address>",
        ("ship to 742 Evergreen Terrace, IL", "ship to <address>, IL"),
        frame="${1}{}",
    ),
    Rule(
        "distance",
        r"((?:stra(?:ß|ss)e|allee|weg|damm|ufer) )([0-9]{1,4} ?(?:k?m|cm|mm|min|Min|Minuten?|Meter|Kilometer"
        r"|Stunden?|Std|Prozent|%|Euro|EUR|€)(?:[^\p{L}0-9]|$))",
        KEEP,
        ("Arbeitsweg 5 km", "Arbeitsweg 5 km"),
        frame="${1}{}${2}",
    ),
    Rule(
        "street_german",
        rf"(^|[^\p{{L}}])\p{{Lu}}[\p{{L}}-]*(?:stra(?:ß|ss)e|str\.|gasse|allee|weg|damm|ufer|-Stra(?:ß|ss)e|-Str\.|-Allee|-Weg|-Platz)"
        rf" [0-9]{{1,4}}(?: ?[a-h]{B})?",
        "<address>",
        ("Lieferung: Lindenallee 7b, Berlin", "Lieferung: <address>, Berlin"),
        frame="${1}{}",
    ),
    Rule(
        "street_before_town",
        r"(^|[^\p{L}])(?:Am|An der|Im|In der|Zum|Zur|Unter den|Auf der) \p{Lu}\p{Ll}+ [0-9]{1,4} ?[a-h]?(, ?[0-9]{5} )",
        "<address>",
        ("Am Markt 5, 80331 Bonn", "<address>, 80331 Bonn"),
        frame="${1}{}${2}",
    ),
    Rule(
        "post_box",
        rf"(?i){B}(?:P\.? ?O\.? ?Box|Postfach) [0-9]{{2,8}}{B}",
        "<address>",
        ("send to P.O. Box 1234, please", "send to <address>, please"),
    ),
)

_OPAQUE = (
    Rule(
        "opaque",
        rf"{B}(?:SHA256:|h1:)?[A-Za-z0-9+/_-]{{32,}}={{0,2}}",
        "<secret:opaque>",
        ("sent Zq8Lr2Xv9Kt4Wn7Bc1Yh6Mj3Pd5Gf0SaE here", "sent <secret:opaque> here"),
        gate=r"(?:^|[^A-Za-z0-9+/_-])[a-z0-9+/_-]*[A-Z][A-Za-z0-9+/_-]{16}|[a-z0-9+/_-]{16}[A-Z]",
        find=find_opaque,
        needs=("[a-z]", "[A-Z]", "[0-9]"),
    ),
)

ESCAPES = Stage("escapes", (r"\\[nrtuUxe0]|\x1b",), _ESCAPES)
STAGES = (
    Stage("blocks", ("PRIVATE KEY|Private-Lines",), _BLOCKS),
    ESCAPES,
    Stage("urls", ("://",), _URLS),
    Stage("oracle", ("(?i)jdbc:oracle:",), _ORACLE),
    Stage("token_urls", ("://",), _TOKEN_URLS),
    Stage("queries", ("[?&]",), _QUERIES),
    Stage("vendors", (), _VENDORS, also=("[A-Za-z0-9_.~+/=-]{15}",)),
    Stage("keywords", (_KEYWORD,), _KEYWORDS),
    Stage("people", (), _PEOPLE),
    Stage("numbers", (), _NUMBERS, also=("[0-9][0-9 ().:/-]*[0-9]|[:.-][0-9A-Fa-f]{0,4}[:.-]|(?i:passport)",)),
    Stage(
        "addresses",
        (
            r"(?:[Ss]tr\.|[Ss]tra(?:ß|ss)e|gasse|[Aa]llee|[Ww]eg|damm|ufer|-Platz|(?i:box|postfach)) [0-9]",
            r"[0-9] ?[a-h]?, ?[0-9]{5} ",
            rf" {_STREET}{B}",
        ),
        _ADDRESSES,
    ),
    Stage("opaque", (), _OPAQUE),
)
RULES = tuple(rule for stage in STAGES for rule in stage.rules)
