"""The roles of the bundled PostgreSQL: `app`, an ordinary role, owns the database `app` and all
that is in it; `postgres` is the superuser, which the service itself never uses.

The statements are for PostgreSQL's single-user mode, with `-j`: a semicolon and an empty
line end each."""

APP = "app"  # the database's name too
ADMIN = "postgres"

# What operators do with the service's own URL: restore into a new database, and practise a
# failover by a read-only server. Neither gives more than the owner of a database has anyway. What
# differs from pg_init_privs would be in every dump, and fail where there is no such role.
_ALLOW = f"""\
ALTER ROLE {APP} CREATEDB;
GRANT ALTER SYSTEM ON PARAMETER default_transaction_read_only TO {APP};
GRANT EXECUTE ON FUNCTION pg_reload_conf() TO {APP};
UPDATE pg_init_privs SET initprivs = proacl FROM pg_proc WHERE classoid = 'pg_proc'::regclass
    AND objoid = 'pg_reload_conf()'::regprocedure AND pg_proc.oid = objoid;"""

_CREATE = f"""
CREATE ROLE {APP} LOGIN PASSWORD '{{app_password}}';
{_ALLOW}

CREATE DATABASE {APP} OWNER {APP};
"""

# Earlier versions had one role, `app`, which the cluster was made with. Such a role stays a
# superuser for ever and REASSIGN OWNED refuses it, so it gets another name, and its objects another
# owner, one by one. Nobody may rename himself: hence the successor. One statement is one
# transaction: after a kill, all of it is done or nothing. (RESET SESSION AUTHORIZATION does nothing
# in single-user mode.)
#
# 10 is the oid of the role that the cluster was made with; initdb's own objects are below 16384.
# Sequences of columns, and types of tables or arrays (i in pg_depend), follow what they belong to;
# what belongs to an extension (e) stays.
_SEPARATE = f"""
DO $$
DECLARE
    object record;
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE oid = 10 AND rolname = '{APP}') THEN
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{ADMIN}') THEN
            ALTER ROLE {ADMIN} RENAME TO {ADMIN}_before;
        END IF;
        CREATE ROLE successor SUPERUSER;
        SET SESSION AUTHORIZATION successor;
        ALTER ROLE {APP} RENAME TO {ADMIN};
        SET SESSION AUTHORIZATION {ADMIN};
        ALTER ROLE successor RENAME TO {APP};
        ALTER ROLE {APP} NOSUPERUSER LOGIN PASSWORD '{{app_password}}';
        ALTER DATABASE {APP} OWNER TO {APP};
        {_ALLOW}
        FOR object IN
            SELECT named.type, named.identity
            FROM (
                SELECT 'pg_namespace'::regclass AS class, oid FROM pg_namespace WHERE nspowner = 10
                UNION ALL
                SELECT 'pg_class'::regclass, oid FROM pg_class
                WHERE relowner = 10 AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
                UNION ALL
                SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE proowner = 10
                UNION ALL
                SELECT 'pg_type'::regclass, oid FROM pg_type t
                WHERE typowner = 10 AND NOT EXISTS (
                    SELECT FROM pg_depend WHERE classid = 'pg_type'::regclass AND objid = t.oid
                        AND deptype = 'i')
            ) AS owned, pg_identify_object(owned.class, owned.oid, 0) AS named
            WHERE owned.oid >= 16384 AND NOT EXISTS (
                SELECT FROM pg_depend
                WHERE classid = owned.class AND objid = owned.oid AND deptype = 'e')
            ORDER BY named.type = 'sequence'
        LOOP
            EXECUTE format('ALTER %s %s OWNER TO {APP}', object.type, object.identity);
        END LOOP;
    END IF;
    ALTER ROLE {ADMIN} PASSWORD '{{admin_password}}';
END $$;
"""


def create(app_password: str) -> str:
    """For a new cluster that was made with ADMIN, in the database `template1`: what is granted
    there goes into every new database."""
    return _CREATE.format(app_password=app_password)


def separate(app_password: str, admin_password: str) -> str:
    """For a cluster of any version, in its database `app`. Repeating it changes only the
    superuser's password."""
    return _SEPARATE.format(app_password=app_password, admin_password=admin_password)
