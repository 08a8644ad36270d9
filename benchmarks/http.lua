-- Load for wrk: requests the next ten items after ten random items, different for every request.
--
-- docs/benchmarks/serving.md has the commands. The environment variable FILMS is a file of ids, one per line;
-- PAUSE is the mean pause of a connection after a response, in milliseconds.

local films = {}
for id in io.lines(os.getenv("FILMS")) do films[#films + 1] = id end

local pause = tonumber(os.getenv("PAUSE") or 0)
if pause > 0 then
  function delay() return math.random(2 * pause) end  -- uniform, so that connections are not in step
end

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
