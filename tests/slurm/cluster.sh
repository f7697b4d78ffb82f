#!/bin/bash
# A real N-node Slurm cluster on this machine, as root, for the integration tests.
# usage: cluster.sh start|stop|status|env|crash-node NODE|start-node NODE
#   eval "$(cluster.sh env)"   # exports SLURM_CONF, PATH (scontrol wrapper, sacct shim if used), OMPI_* for root
# Debian 12: apt-get install slurmctld slurmd slurm-client [munge] [slurmdbd mariadb-server slurm-wlm-mysql-plugin]
# knobs: SLURM_CLUSTER_DIR NODES CPUS GPUS ACCT=dbd|shim|none AUTH=none|munge BASEPORT SAFE_REQUEUE=1|0 PRIVATE ARRAY (each prefixed SLURM_CLUSTER_)
#   ARRAY: how many jobs an array may have
#   PRIVATE: a folder of which every node sees an empty one of its own in place of the login node's
set -u
D=${SLURM_CLUSTER_DIR:-/tmp/slurm-cluster}
N=${SLURM_CLUSTER_NODES:-3}; CPUS=${SLURM_CLUSTER_CPUS:-4}; GPUS=${SLURM_CLUSTER_GPUS:-2}
AUTH=${SLURM_CLUSTER_AUTH:-none}; P=${SLURM_CLUSTER_BASEPORT:-16800}
PRIVATE=${SLURM_CLUSTER_PRIVATE:-}
if command -v slurmdbd >/dev/null && command -v mariadbd >/dev/null; then A=dbd; else A=shim; fi
[ -f "$D/acct" ] && A=$(cat "$D/acct")
ACCT=${SLURM_CLUSTER_ACCT:-$A}
CONF=$D/etc/slurm.conf
export SLURM_CONF=$CONF

living() { case $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) in ""|Z*) return 1;; esac; }  # a zombie counts as dead
alive() { [ -s "$D/run/$1.pid" ] && living "$(cat "$D/run/$1.pid")"; }
until_ok() { # until_ok SECONDS COMMAND...   polls every 50 ms
  local end=$(( $(date +%s%N)/1000000 + $1*1000 )); shift
  until "$@" >/dev/null 2>&1; do
    [ $(( $(date +%s%N)/1000000 )) -lt $end ] || { echo "timed out: $*" >&2; return 1; }; sleep 0.05; done; }
spawn() { # spawn NAME COMMAND...  (background, own session, pid recorded, no inherited fds)
  local n=$1; shift
  setsid "$@" </dev/null >>"$D/log/$n.out" 2>&1 3>&- 4>&- & echo $! >"$D/run/$n.pid"; }
stop_one() { # stop_one NAME [SIGNAL]
  local f=$D/run/$1.pid p; alive "$1" || { rm -f "$f"; return 0; }; p=$(cat "$f")
  kill -"${2:-TERM}" "$p" 2>/dev/null
  for _ in $(seq 400); do living "$p" || break; sleep 0.05; done
  living "$p" && kill -KILL "$p"; rm -f "$f"; }

write_conf() { # FirstJobId: the nodes of all clusters of this machine share /dev/shm, where OpenMPI names its files by host and job
  mkdir -p "$D"/{etc,run,log,state,dev,bin}; echo "$ACCT" >"$D/acct"
  local i acct=none; [ "$ACCT" = dbd ] && acct=slurmdbd
  { cat <<E
ClusterName=testc
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$P
SlurmUser=root
SlurmdUser=root
AuthType=auth/$AUTH
CredType=cred/$AUTH
AuthInfo=cred_expire=5$( [ "$AUTH" = munge ] && echo ",socket=$D/run/munge.socket" )
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
TmpFS=$D/tmp/%n
SlurmctldPidFile=$D/run/ctld.self.pid
SlurmdPidFile=$D/run/%n.self.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.%n.log
PlugStackConfig=/dev/null
TaskProlog=$D/etc/task_prolog
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,requeue_delay=0
MaxArraySize=${SLURM_CLUSTER_ARRAY:-10001}
MaxJobCount=20000
FirstJobId=$P
JobRequeue=1
ReturnToService=2
KillWait=2
CompleteWait=0
UnkillableStepTimeout=20
SlurmdTimeout=10
SlurmctldTimeout=10
MinJobAge=300
GresTypes=gpu
AccountingStorageType=accounting_storage/$acct
E
    if [ "$ACCT" = dbd ]; then cat <<E
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((P+98))
AccountingStorageTRES=gres/gpu
JobCompType=jobcomp/none
E
    fi
    for i in $(seq "$N"); do
      mkdir -p "$D/spool/node$i" "$D/tmp/node$i"
      echo "NodeName=node$i NodeHostname=node$i NodeAddr=127.0.0.1 Port=$((P+i)) CPUs=$CPUS RealMemory=$((CPUS*1000)) Gres=gpu:$GPUS"
    done
    echo "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 State=UP OverSubscribe=YES"
  } >"$CONF"
  for i in $(seq 0 $((GPUS-1))); do [ -e "$D/dev/nvidia$i" ] || mknod "$D/dev/nvidia$i" c 1 3; done
  echo "Name=gpu File=$D/dev/nvidia[0-$((GPUS-1))]" >"$D/etc/gres.conf"
  echo "CgroupPlugin=cgroup/v1" >"$D/etc/cgroup.conf"
  # Slurm does in each task what its prolog prints. Coverage makes a rank's imports cost 1.4 times as much; commands on the
  # login node are measured, and the ranks of tests/sweep.
  printf '#!/bin/sh\necho unset COVERAGE_PROCESS_CONFIG\n' >"$D/etc/task_prolog"; chmod +x "$D/etc/task_prolog"
  # With Slurm 22.05 and OpenMPI 4.1 a step of two nodes died or hung in MPI_Init in 5 of 220 starts on a full machine
  # (tree: 8 of 220, ring: none): its fence lets the ranks of one node go before those of the other have come.
  echo "PMIxCollFence=ring" >"$D/etc/mpi.conf"
  { echo "127.0.0.1 localhost $(hostname)"; for i in $(seq "$N"); do echo "127.0.0.1 node$i"; done; } >"$D/etc/hosts"
  rm -f "$D"/bin/*
  # `scontrol requeue` run inside a job (submitit does) can be hit by the SIGTERM of its own requeue: ignore TERM there
  if [ "${SLURM_CLUSTER_SAFE_REQUEUE:-1}" = 1 ]; then
    printf '#!/bin/bash\ntrap "" TERM\nexec %s "$@"\n' "$(PATH=/usr/bin:/usr/local/bin:/opt/slurm/bin:$PATH command -v scontrol)" >"$D/bin/scontrol"; chmod +x "$D/bin/scontrol"
  fi
  [ "$ACCT" = shim ] && write_shim
  return 0
}

write_shim() { # `sacct -o JobID,State,NodeList --parsable2 -j ID...` answered from slurmctld's memory (MinJobAge s)
  cat >"$D/bin/sacct" <<'E'
#!/bin/bash
want=,; while [ $# -gt 0 ]; do case $1 in -j|--jobs) want+="$2,"; shift;; -j*) want+="${1#-j},";; --jobs=*) want+="${1#*=},";; esac; shift; done
echo "JobID|State|NodeList"
scontrol -o show job 2>/dev/null | awk -v want="$want" '
  function f(k,  i){for(i=1;i<=NF;i++) if(index($i,k"=")==1) return substr($i,length(k)+2); return ""}
  /^JobId=/{id=f("JobId"); a=f("ArrayJobId"); t=f("ArrayTaskId"); m=(a!=""?a:id)
    if (want!="," && !index(want,","m",") && !index(want,","id",")) next
    sub(/%.*/,"",t); j=id; if(a!="") j=a"_"(t~/[-,]/?"["t"]":t)
    n=f("NodeList"); if(n==""||n=="(null)") n="None assigned"; print j"|"f("JobState")"|"n}'
E
  chmod +x "$D/bin/sacct"
}

start_dbd() {
  local my=$D/mysql port=$((P+99))
  if [ ! -d "$my/mysql" ]; then
    mariadb-install-db --no-defaults --user=root --datadir="$my" --skip-test-db --auth-root-authentication-method=normal >"$D/log/mysql-install.log" 2>&1 || { tail "$D/log/mysql-install.log" >&2; return 1; }
  fi
  spawn mariadbd mariadbd --no-defaults --user=root --datadir="$my" --socket="$D/run/mysql.sock" --pid-file="$D/run/mysql.self.pid" \
    --bind-address=127.0.0.1 --port=$port --skip-grant-tables --skip-name-resolve --performance-schema=0 --skip-log-bin \
    --innodb-buffer-pool-size=64M --innodb-log-file-size=16M --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900
  cat >"$D/etc/slurmdbd.conf" <<E
AuthType=auth/$AUTH
$( [ "$AUTH" = munge ] && echo "AuthInfo=socket=$D/run/munge.socket" )
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((P+98))
SlurmUser=root
LogFile=$D/log/slurmdbd.log
PidFile=$D/run/slurmdbd.self.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$port
StorageUser=root
StoragePass=x
StorageLoc=slurm_acct_db
E
  chmod 600 "$D/etc/slurmdbd.conf"
  until_ok 30 mariadb-admin --no-defaults -uroot --socket="$D/run/mysql.sock" ping || return 1
  spawn slurmdbd slurmdbd -D
  until_ok 30 bash -c "sacctmgr -n -P show cluster format=cluster" || return 1
  sacctmgr -n -P show cluster format=cluster | grep -qx testc || sacctmgr -i -Q add cluster testc >/dev/null
}

start_node() {
  alive "$1" && return 0
  # own UTS ns: distinct hostname; own PID ns: killing its init kills slurmd, stepds and tasks at once (= node crash)
  spawn "$1" unshare --uts --pid --fork --kill-child=KILL --mount-proc bash -c \
    'hostname "$0"; mount --bind "$1" /etc/hosts; [ -z "$2" ] || mount -t tmpfs private "$2" || exit; slurmd -D -N "$0" & trap "kill \$!" TERM; while kill -0 $! 2>/dev/null; do wait; done' "$1" "$D/etc/hosts" "$PRIVATE"
}

case ${1:-} in
start)
  if alive slurmctld; then echo "already running: $D" >&2; echo "export SLURM_CONF=$CONF"; exit 0; fi
  [ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 1; }
  write_conf
  if [ "$AUTH" = munge ]; then
    [ -s "$D/etc/munge.key" ] || { head -c 128 /dev/urandom >"$D/etc/munge.key"; chmod 600 "$D/etc/munge.key"; }
    spawn munged munged --foreground --force --key-file="$D/etc/munge.key" --socket="$D/run/munge.socket" \
      --pid-file="$D/run/munge.self.pid" --seed-file="$D/run/munge.seed"
    until_ok 10 munge -S "$D/run/munge.socket" -n || exit 1
  fi
  [ "$ACCT" = dbd ] && { start_dbd || exit 1; }
  spawn slurmctld slurmctld -D
  for i in $(seq "$N"); do start_node "node$i"; done
  until_ok 30 bash -c "[ \"\$(sinfo -h -N -o %t | grep -c '^idle\$\|^mix\$\|^alloc\$')\" = $N ]" || { sinfo -N -l; exit 1; }
  echo "export SLURM_CONF=$CONF" ;;
stop)
  [ -d "$D/run" ] || exit 0
  alive slurmctld && scancel -Q --state=PENDING,RUNNING,SUSPENDED --me 2>/dev/null
  stop_one slurmctld
  for f in "$D"/run/node*.pid; do case $f in *.self.pid|*\**) ;; *) stop_one "$(basename "$f" .pid)" KILL;; esac; done
  stop_one slurmdbd; stop_one mariadbd; stop_one munged
  [ "${2:-}" = --purge ] && rm -rf "$D"; exit 0 ;;
status)
  for f in "$D"/run/*.pid; do case $f in *.self.pid|*\**) continue;; esac
    n=$(basename "$f" .pid); alive "$n" && echo "$n up (pid $(cat "$f"))" || echo "$n DOWN"; done
  alive slurmctld || exit 3
  sinfo -N -o '%N %T %C %G %m %E'; squeue ;;
env)
  echo "export SLURM_CONF=$CONF OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
  echo "case :\$PATH: in *:$D/bin:*) ;; *) export PATH=$D/bin:\$PATH;; esac" ;;
crash-node) stop_one "$2" KILL ;;
start-node) start_node "$2" ;;
*) sed -n 2,8p "$0"; exit 2 ;;
esac
