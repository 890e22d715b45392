"""Where a client came from and what it was, as coarsely as statistics need: a network, a family and its version."""

import ipaddress
import re

import polars as pl

_BRACKETED = re.compile(r"\[([^\]]+)\](?::\d+)?")
_IPV4_WITH_PORT = re.compile(r"(\d+\.\d+\.\d+\.\d+):\d+")
_IPV4_BITS, _IPV6_BITS = 24, 48
_PLAIN_IPV4 = r"^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$"
_LARGEST_OCTET = 255

_FAMILIES = (
    (r"(?i)(?:bot|crawler|spider)\b", "Bot"),
    (r"Edg(?:e|A|iOS)?/(\d+)", "Edge"),
    (r"OPR/(\d+)", "Opera"),
    (r"Firefox/(\d+)", "Firefox"),
    (r"(?:Chrome|CriOS)/(\d+)", "Chrome"),
    (r"Version/(\d+)\S* (?:Mobile/\S+ )?Safari/", "Safari"),
    (r"curl/(\d+)", "curl"),
    (r"(?i)python-requests/(\d+)", "python-requests"),
    (r"(?i)(?:python-)?httpx/(\d+)", "httpx"),
    (r"(?i)aiohttp/(\d+)", "aiohttp"),
    (r"(?i)axios/(\d+)", "axios"),
    (r"(?i)node-fetch/(\d+)", "node-fetch"),
    (r"(?i)okhttp/(\d+)", "okhttp"),
    (r"Go-http-client/(\d+)", "Go"),
    (r"(?i)postmanruntime/(\d+)", "Postman"),
)


def address_prefix(addresses: pl.Series) -> pl.Series:
    """The /24 network of an IPv4 address, the /48 of an IPv6 one; null for what is no address. Ports and zones go."""
    octets = addresses.str.extract_groups(_PLAIN_IPV4).struct.unnest()
    is_valid = octets.select(pl.all_horizontal(pl.all().cast(pl.Int64) <= _LARGEST_OCTET)).to_series()
    network = octets.select(pl.format("{}.{}.{}.0/24", "1", "2", "3")).to_series()
    plain = network.zip_with(is_valid.fill_null(value=False), pl.Series([None], dtype=pl.String))
    odd = addresses.filter(plain.is_null() & addresses.is_not_null()).unique()
    if odd.is_empty():
        return plain
    prefixes = {address: _prefix(address) for address in odd}
    others = addresses.replace_strict(prefixes, default=None, return_dtype=pl.String)
    return plain.zip_with(plain.is_not_null(), others)


def client_family(user_agents: pl.Series) -> pl.Series:
    """The family and major version a user agent names, `other` for the unknown."""
    families = {agent: _family(agent) for agent in user_agents.unique().drop_nulls()}
    return user_agents.replace_strict(families, default=None, return_dtype=pl.String)


def _prefix(text: str) -> str | None:
    bare = text.strip().split(",")[0].strip()
    if matched := _BRACKETED.fullmatch(bare) or _IPV4_WITH_PORT.fullmatch(bare):
        bare = matched[1]
    try:
        address = ipaddress.ip_address(bare.split("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    bits = _IPV4_BITS if address.version == 4 else _IPV6_BITS  # noqa: PLR2004
    return str(ipaddress.ip_network((address, bits), strict=False))


def _family(text: str) -> str:
    for pattern, family in _FAMILIES:
        if matched := re.search(pattern, text):
            return f"{family} {matched[1]}" if matched.groups() else family
    return "other"
