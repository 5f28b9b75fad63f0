-- For wrk: sends requests of METHOD with a body of BODY_BYTES, prints the outcome as one line of JSON.
-- wrk -s load.lua URL -- METHOD BODY_BYTES

function init(args)
  wrk.method = args[1]
  local body_bytes = tonumber(args[2])
  if body_bytes > 0 then
    wrk.body = string.rep("x", body_bytes)
    wrk.headers["Content-Type"] = "application/octet-stream"
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, "p999_us": %d,'
      .. ' "errors": {"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}}\n',
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
