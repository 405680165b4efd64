\set n random(1, 2000)
\set id (:first + :n) * 4096 + :slot
SELECT :id::bigint;
