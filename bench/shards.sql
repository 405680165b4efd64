-- The coordinator of `shards`, which has a store: a cluster of four, and beside it the same over PL/Proxy, dblink and postgres_fdw.
-- Variables: folder (server N has its socket in folder || N), port.
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION dblink;
CREATE EXTENSION plproxy;
CREATE SCHEMA bench;
SELECT format('CREATE SERVER shard%s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host %L, port %L, dbname %L, async_capable %L)', n, :'folder' || n, :'port', 'bench', 'true'),
       format('CREATE USER MAPPING FOR postgres SERVER shard%s OPTIONS (user %L)', n, 'postgres'),
       format('SELECT order_proc.add_shard(%L)', 'shard' || n)
FROM generate_series(0, 3) AS n \gexec

SELECT format('CREATE SERVER shards FOREIGN DATA WRAPPER plproxy OPTIONS (%s)', string_agg(format('p%s %L', n, format('dbname=bench host=%s%s port=%s', :'folder', n, :'port')), ', ' ORDER BY n))
FROM generate_series(0, 3) AS n \gexec
CREATE USER MAPPING FOR postgres SERVER shards OPTIONS (user 'postgres');
-- PL/Proxy is told the partition, and spared the work to find it.
CREATE FUNCTION bench.get_over_plproxy(id bigint) RETURNS order_proc.order_with_items LANGUAGE plproxy AS $$
  CLUSTER 'shards'; RUN ON 0; SELECT * FROM order_proc.get_order_with_items(id);
$$;
CREATE FUNCTION bench.create_over_plproxy(customer bigint) RETURNS bigint LANGUAGE plproxy AS $$
  CLUSTER 'shards'; RUN ON 0;
  SELECT order_proc.create_order_with_items(customer, 'pending', NULL, '{38,75,112,149,186}', '{2,3,4,5,6}', '{2.72,4.45,6.18,7.91,9.64}');
$$;
CREATE FUNCTION bench.nothing_over_plproxy() RETURNS SETOF int LANGUAGE plproxy AS $$
  CLUSTER 'shards'; RUN ON ALL; SELECT 1;
$$;

CREATE TABLE bench.orders (id bigint, customer_id bigint, status text, total_amount numeric(12,2)) PARTITION BY HASH (customer_id);
SELECT format('CREATE FOREIGN TABLE bench.orders%s PARTITION OF bench.orders FOR VALUES WITH (MODULUS 4, REMAINDER %1$s) SERVER shard%1$s OPTIONS (schema_name %L, table_name %L)', n, 'order_store', 'orders')
FROM generate_series(0, 3) AS n \gexec
ANALYZE bench.orders;
