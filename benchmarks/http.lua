-- For wrk: histories of ten films each, another for every request.
--
--   recsys serve BUNDLE --workers 2 --log-level warning
--   wrk -t1 -c100 -d30s --latency -s benchmarks/http.lua http://127.0.0.1:8000
--
-- The films are the 500 most watched, as /v1/map gives their ids to `init` through the file that
-- the environment variable FILMS names (one id a line).

local films = {}
for id in io.lines(os.getenv("FILMS")) do films[#films + 1] = id end

function request()
  local history = {}
  for i = 1, 10 do history[i] = films[math.random(#films)] end
  local body = '{"history":[' .. table.concat(history, ",") .. '],"k":10}'
  return wrk.format("POST", "/v1/next", {["Content-Type"] = "application/json"}, body)
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "per_second": %.0f, "p50_ms": %.1f, "p90_ms": %.1f, "p99_ms": %.1f, ' ..
    '"max_ms": %.1f, "bad_status": %d, "socket_errors": %d, "timeouts": %d}',
    summary.requests, summary.requests / (summary.duration / 1e6),
    latency:percentile(50) / 1000, latency:percentile(90) / 1000, latency:percentile(99) / 1000,
    latency.max / 1000, errors.status, errors.connect + errors.read + errors.write,
    errors.timeout))
end
