-- For wrk: announces of 64,512 peers in 1,000 swarms. A peer is a port; its swarm follows from it.
local SWARMS = 1000
local PORT_FIRST, PORT_LAST = 1024, 65535

local requests = {}

function init()
    local hashes = {}
    math.randomseed(7)
    for swarm = 0, SWARMS - 1 do
        local bytes = {}
        for i = 1, 20 do
            bytes[i] = string.format("%%%02x", math.random(0, 255))
        end
        hashes[swarm] = table.concat(bytes)
    end
    for port = PORT_FIRST, PORT_LAST do
        requests[port] = wrk.format("GET", string.format(
            "/announce?info_hash=%s&peer_id=-XX0001-%012d&port=%d&uploaded=0&downloaded=0&left=1&compact=1&numwant=50",
            hashes[port % SWARMS], port, port))
    end
end

function request()
    return requests[math.random(PORT_FIRST, PORT_LAST)]
end

function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format('{"answers": %d, "bytes": %d, "per_s": %.1f, "failed": %d, "p99_ms": %.2f}\n',
        summary.requests, summary.bytes, summary.requests / summary.duration * 1e6, failed, latency:percentile(99) / 1000))
end
