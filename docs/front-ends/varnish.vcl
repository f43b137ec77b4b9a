# Varnish (Debian 12: packages varnish and varnish-modules) as the cache in front of the gateways: alone, or as a centre
# (L2) behind edges. As /etc/varnish/default.vcl. See ../cdn.md.
vcl 4.1;

import directors;
import std;
import xkey;

probe health {
    .url = "/healthz";
    .interval = 2s;
    .timeout = 1s;
    .window = 4;
    .threshold = 2;
    .initial = 2;
}
backend gateway1 {
    .host = "127.0.0.1";
    .port = "7500";
    .probe = health;
    .connect_timeout = 2s;
    .first_byte_timeout = 20s;      # longer than a gateway takes to say 503 by itself
    .between_bytes_timeout = 10s;
}
backend gateway2 {
    .host = "127.0.0.1";
    .port = "7502";
    .probe = health;
    .connect_timeout = 2s;
    .first_byte_timeout = 20s;
    .between_bytes_timeout = 10s;
}

# Who may purge: the gateways.
acl purgers {
    "127.0.0.1";
}

sub vcl_init {
    new gateways = directors.round_robin();
    gateways.add_backend(gateway1);
    gateways.add_backend(gateway2);
}

sub vcl_recv {
    set req.backend_hint = gateways.backend();
    unset req.http.X-Tfs-Name;

    if (req.method == "PURGE") {
        if (client.ip !~ purgers) {
            return (synth(403, "this address may not purge"));
        }
        if (req.url == "/images/*") {
            ban("obj.status != 0");
            return (synth(200, "purged"));
        }
        if (req.url !~ "^/images/T[0-9][A-Za-z0-9._-]{16}$") {
            return (synth(400, "PURGE /images/ and the 18 characters of a name"));
        }
        set req.http.X-Tfs-Name = regsub(req.url, "^/images/", "");
        # All objects of this tag, at once: the cost is that of removing them, and not of the size of the cache.
        set req.http.X-Tfs-Purged = xkey.purge(req.http.X-Tfs-Name);
        return (synth(200, "purged"));
    }
    # Readers only: uploads and commands go to the gateways, not through a cache.
    if (req.method != "GET" && req.method != "HEAD" && req.method != "OPTIONS") {
        return (synth(405));
    }
    if (req.url !~ "^/images/") {
        return (synth(404));
    }
    # A cache asks as anybody would: what it keeps is for everybody.
    unset req.http.Authorization;
    unset req.http.Cookie;
    if (req.method == "OPTIONS") {
        return (pass);
    }
    # The order of options says nothing.
    set req.url = std.querysort(req.url);
    call normalise_accept;

    if (req.restarts == 0) {
        unset req.http.X-Tfs-Fresh;
        unset req.http.X-Tfs-Failed;
    } else if (req.http.X-Tfs-Fresh && !req.http.X-Tfs-Failed) {
        set req.grace = 0s;
    } else {
        set req.grace = 100d;
    }
    return (hash);
}

# One spelling of Accept for all clients to whom the gateway gives the same. Whoever weighs or excludes what it decides by
# (AVIF, WebP, JPEG, PNG, GIF, all images) keeps a header of its own, and with it copies of its own: always right, and rare.
sub normalise_accept {
    if (!req.http.Accept) {
        set req.http.Accept = "*/*";
        return;
    }
    std.collect(req.http.Accept);
    if (req.http.Accept ~ "(?i)^(?=.*(?:image/\*|\*/\*))\s*+(?:(?:image/(?:avif|webp|jpeg|png|gif)|(?:image/\*|\*/\*)(?:;\s*+q=(?:0\.[0-9]{0,2}[1-9]|1(?:\.0{0,3})?))?|(?!image/(?:avif|webp|jpeg|png|gif|\*)|\*/\*)[\w*+.-]++/[\w*+.-]++(?:\s*+;[^,;]*+)*+)\s*+(?:,\s*+(?=.)|$))++$") {
        if (req.http.Accept ~ "(?i)(?:^|,)\s*image/avif\s*(?:,|$)") {
            if (req.http.Accept ~ "(?i)(?:^|,)\s*image/webp\s*(?:,|$)") {
                set req.http.Accept = "image/avif,image/webp,*/*";
            } else {
                set req.http.Accept = "image/avif,*/*";
            }
        } else if (req.http.Accept ~ "(?i)(?:^|,)\s*image/webp\s*(?:,|$)") {
            set req.http.Accept = "image/webp,*/*";
        } else {
            set req.http.Accept = "*/*";
        }
    }
}

# The path and the options. Not in the key: host, cookies, Accept (the origin says "Vary: Accept" where it counts, and
# Varnish keeps those answers apart).
sub vcl_hash {
    hash_data(req.url);
    return (lookup);
}

# One that is old is given out while a newer one is fetched, for as long as the origin's stale-while-revalidate says; when
# no gateway is well, or none answered a moment ago, for as long as its stale-if-error says.
sub vcl_hit {
    if (obj.ttl + std.duration(obj.http.X-Tfs-Stale, 0s) <= 0s && std.healthy(req.backend_hint) &&
        !req.http.X-Tfs-Fresh) {
        set req.http.X-Tfs-Fresh = "1";
        return (restart);
    }
}

sub vcl_backend_response {
    if (beresp.status >= 500) {
        # The old answer stays where there is one.
        if (bereq.is_bgfetch) {
            return (abandon);
        }
        set beresp.uncacheable = true;
        set beresp.ttl = 0s;
        return (deliver);
    }
    # xkey finds objects by this header. Answers without a tag, such as some of 404, are told by their path.
    if (beresp.http.Surrogate-Key) {
        set beresp.http.xkey = beresp.http.Surrogate-Key;
    } else if (bereq.url ~ "^/images/T[0-9][A-Za-z0-9._-]{16}") {
        set beresp.http.xkey = regsub(bereq.url, "^/images/(T[0-9][A-Za-z0-9._-]{16}).*$", "\1");
    }
    if (beresp.http.Cache-Control ~ "(?i)no-store|no-cache|private") {
        # Not for long: the next answer for the same may be one to keep.
        set beresp.uncacheable = true;
        set beresp.ttl = 1s;
        return (deliver);
    }
    # What may be shown although it is old. Where the origin says nothing, as of what was asked for with a signature,
    # nothing may.
    set beresp.grace = 0s;
    unset beresp.http.X-Tfs-Stale;
    if (beresp.http.Cache-Control ~ "(?i)stale-while-revalidate=[0-9]+") {
        set beresp.http.X-Tfs-Stale =
            regsub(beresp.http.Cache-Control, "(?i)^.*stale-while-revalidate=([0-9]+).*$", "\1") + "s";
        set beresp.grace = std.duration(beresp.http.X-Tfs-Stale, 0s);
    }
    if (beresp.http.Cache-Control ~ "(?i)stale-if-error=[0-9]+") {
        set beresp.grace = std.duration(
            regsub(beresp.http.Cache-Control, "(?i)^.*stale-if-error=([0-9]+).*$", "\1") + "s", 0s);
    }
    # How long an old one is kept to ask the origin with its ETag whether it is still right.
    set beresp.keep = 7d;
}

sub vcl_backend_error {
    if (bereq.retries == 0) {
        return (retry);
    }
}

sub vcl_deliver {
    # No gateway answered: once more, and then an old one will do.
    if (resp.status >= 500 && !req.http.X-Tfs-Failed) {
        set req.http.X-Tfs-Failed = "1";
        return (restart);
    }
    unset resp.http.xkey;
    unset resp.http.X-Tfs-Stale;
    unset resp.http.Via;
    unset resp.http.X-Varnish;
    if (obj.hits > 0) {
        set resp.http.X-Cache = "Varnish HIT";
    } else {
        set resp.http.X-Cache = "Varnish MISS";
    }
}

sub vcl_synth {
    if (resp.status == 200) {
        set resp.http.X-Purged = req.http.X-Tfs-Purged;
    }
    set resp.http.Cache-Control = "no-store";
    set resp.http.Content-Type = "text/plain";
    set resp.body = resp.reason + {"
"};
    return (deliver);
}
