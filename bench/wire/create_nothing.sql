\set customer random(1, 10000)
SELECT :customer::bigint;
