# shellcheck shell=bash
# Much of this is for those who source it.
# shellcheck disable=SC2034
# What the scripts beside it share: where things are, and how a server is started and stopped.
set -euo pipefail
export LC_ALL=C

services=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$services/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cache=${GEAR_SERVICES_CACHE:-$target/services}
# Tests run in another folder than who calls them: what is relative begins at the root.
[[ $cache == /* ]] || cache=$root/$cache
# In the order in which they are started; an instance has others if `up` was asked for them.
NAMES=(namenode datanode1 datanode2 kafka s3)

# What the scripts exit with where there can be no servers: no Java, or nothing to download from.
UNAVAILABLE=69
# Of each server, in MiB.
HEAP=256
# Seconds until a server serves, on the slowest machine.
START_SECONDS=60
# Seconds until a server ends that was asked to.
STOP_SECONDS=10
# Lines of a log that are shown when a server does not come up.
LOG_LINES=20
# Ports are given in blocks of one for each listener, below those that the kernel gives to whoever
# dials, and apart from those of the other tests.
PORTS_FROM=10000
PORT_BLOCKS=650
LISTENERS=(KAFKA KAFKA_SASL KAFKA_TLS CONTROLLER NAMENODE NAMENODE_HTTP NAMENODE2 NAMENODE2_HTTP
  DATANODE1 DATANODE1_IPC DATANODE1_HTTP DATANODE2 DATANODE2_IPC DATANODE2_HTTP S3 KDC)
# The bucket that there is from the start, and who may use it.
BUCKET=gear
S3_KEY_ID=gear
S3_SECRET=known-to-every-test

# What the HDFS of two NameNodes is called: `hdfs://gear/...`.
NAMESERVICE=gear
# Of Kerberos: the realm, and the user whose keys DIR/kdc/keytab has.
REALM=GEAR.TEST
PRINCIPAL=gear

# Servers load their classes from archives, but those that are started to make these.
archives=use
# Empty for a usual instance. An HDFS and nothing else is `ha`, with two NameNodes, `kerberos`, or
# `kerberos-privacy`, behind Kerberos and with data that is encrypted on its way.
kind=

say() {
  echo "services: $*" >&2
}

fail() {
  say "$@"
  exit 1
}

unavailable() {
  say "$@"
  exit "$UNAVAILABLE"
}

# Java, and the folder of what does not change from run to run, which is made if it is missing.
set_libraries() {
  local version major key
  java=${JAVA_HOME:+$JAVA_HOME/bin/}java
  version=$("$java" -version 2>&1) ||
    unavailable "there is no Java ($java): a JDK of 17 or later is needed"
  major=$(sed -n 's/.* version "\([0-9]*\).*/\1/p' <<<"$version")
  ((${major:-0} >= 17)) || unavailable "a JDK of 17 or later is needed; $java says: $version"
  # Archives of classes are good for one JVM and one place.
  key=$(cat "$services/pom.xml" "$services"/servers/{kafka,hdfs,s3}.xml "$services/warm" - <<<"$version $cache" |
    cksum | cut -d ' ' -f 1)
  libraries=$cache/libraries-$key
  # While the cache is filled, its own programs are run.
  if [ -z "${GEAR_SERVICES_WARMING:-}" ] && [ ! -e "$libraries/ready" ]; then
    "$services/warm"
  fi
}

# The KDC, which is downloaded if it is missing.
set_kdc() {
  local own=$kdc.$$
  [ ! -e "$kdc" ] || return 0
  command -v mvn >/dev/null ||
    unavailable "there is no Maven (mvn), with which the KDC is downloaded"
  say "downloading the KDC (once)"
  mvn -q -B -f "$services/servers/kdc.xml" dependency:copy-dependencies -DincludeScope=runtime \
    "-DoutputDirectory=$own" >"$kdc.out" 2>&1 ||
    unavailable "Maven could not download the KDC: $(tail -n "$LOG_LINES" "$kdc.out")"
  # Somebody else may have been faster.
  mv -T "$own" "$kdc" 2>/dev/null || rm -rf "$own"
}

# The folder of an instance: set_folder [DIR].
set_folder() {
  dir=${1:-${GEAR_SERVICES_DIR:-$cache/default}}
  case $dir in
    /*) ;;
    *) dir=$PWD/$dir ;;
  esac
  case $dir in
    *[[:space:]\&\|,]*) fail "$dir: such characters cannot stand in the servers' settings" ;;
  esac
  [ ! -e "$dir/kind" ] || set_kind "$(cat "$dir/kind")"
}

# What the instance is made of: set_kind KIND.
set_kind() {
  kind=$1
  case $kind in
    ha) NAMES=(namenode namenode2 datanode1 datanode2) ;;
    kerberos*)
      NAMES=(kdc namenode datanode1 datanode2)
      # Not of a version of the other libraries: it is downloaded only where it is asked for.
      kdc=$cache/kdc-$(cksum <"$services/servers/kdc.xml" | cut -d ' ' -f 1)
      ;;
  esac
}

# Fails if the instance has no such server.
known() {
  local name
  for name in "${NAMES[@]}"; do
    [ "$name" != "$1" ] || return 0
  done
  fail "there is no server '$1': it is one of ${NAMES[*]}"
}

# The ports of the instance, as variables of the listeners' names.
read_ports() {
  [ -e "$dir/ports" ] || fail "$dir: no servers have been started here: $services/up $dir"
  # shellcheck source=/dev/null
  . "$dir/ports"
  local listener
  for listener in "${LISTENERS[@]}"; do
    [ -n "${!listener:-}" ] ||
      fail "$dir: it was made by other scripts than these, without a port for $listener: remove it"
  done
}

# True if somebody listens there.
listens() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Gives the instance the ports of a block: set_ports BLOCK.
set_ports() {
  local port=$((PORTS_FROM + $1 * ${#LISTENERS[@]})) listener
  for listener in "${LISTENERS[@]}"; do
    printf '%s=%d\n' "$listener" "$port"
    port=$((port + 1))
  done >"$dir/ports"
  read_ports
}

# The first port on which somebody listens already.
port_taken() {
  local listener
  for listener in "${LISTENERS[@]}"; do
    if listens "${!listener}"; then
      echo "${!listener}"
      return
    fi
  done
  return 1
}

# The servers' settings, with the instance's ports and folders.
write_settings() {
  local listener script="s,@DATA@,$dir,;s,@TLS@,$libraries/tls,"
  for listener in "${LISTENERS[@]}"; do
    script+=";s,@$listener@,${!listener},"
  done
  script+=";s,@NAMESERVICE@,$NAMESERVICE,;s,@REALM@,$REALM,"
  case $kind in
    kerberos) script+=";s,@PROTECTION@,authentication," ;;
    kerberos-privacy) script+=";s,@PROTECTION@,privacy," ;;
  esac
  mkdir -p "$dir/hadoop"
  # Of two values the later one counts.
  {
    sed '/<\/configuration>/d' "$services/servers/site.xml"
    [ -z "$kind" ] || sed '/<\/*configuration>/d' "$services/servers/site-${kind%%-*}.xml"
    echo '</configuration>'
  } | sed "$script" >"$dir/hadoop/core-site.xml"
  # Hadoop's programs want both files, and do not mind which has what.
  cp "$dir/hadoop/core-site.xml" "$dir/hadoop/hdfs-site.xml"
  if [[ $kind == kerberos* ]]; then
    sed "$script" "$services/servers/krb5.conf" >"$dir/hadoop/krb5.conf"
    sed "$script" "$services/servers/kdc.properties" >"$dir/kdc.properties"
  fi
  [ -z "$kind" ] || return 0
  sed "$script" "$services/servers/server.properties" >"$dir/server.properties"
  sed "$script;s,@KEY_ID@,$S3_KEY_ID,;s,@SECRET@,$S3_SECRET," \
    "$services/servers/s3.properties" >"$dir/s3.properties"
}

# The broker's key and certificate, which whoever has the cache knows, and the certificate for its
# clients.
new_certificate() {
  local keytool=${JAVA_HOME:+$JAVA_HOME/bin/}keytool store
  store=(-keystore "$libraries/tls/broker.p12" -storepass known-to-every-test -alias broker)
  rm -rf "$libraries/tls"
  mkdir "$libraries/tls"
  {
    "$keytool" -genkeypair "${store[@]}" -storetype PKCS12 -keyalg EC -groupname secp256r1 \
      -dname CN=broker -ext san=ip:127.0.0.1 -validity 36500
    "$keytool" -exportcert "${store[@]}" -rfc -file "$libraries/tls/broker.pem"
  } >"$libraries/tls/out" 2>&1 || fail "there is no certificate: $(cat "$libraries/tls/out")"
}

# An empty folder for the broker. The number is the cluster's: 16 bytes in base64.
new_kafka_data() {
  mkdir -p "$dir/kafka/data"
  printf 'version=1\ncluster.id=gear%05d%05d%06dAA\nnode.id=1\n' \
    "$RANDOM" "$RANDOM" $(($$ % 1000000)) >"$dir/kafka/data/meta.properties"
}

# An empty HDFS, into which no DataNode of another instance is let.
new_hdfs_data() {
  local version=$dir/namenode/data/current/VERSION
  mkdir -p "$dir/namenode"
  cp -R "$libraries/formatted/data" "$dir/namenode"
  sed "s/^clusterID=.*/clusterID=gear-$RANDOM-$RANDOM-$$/" \
    "$libraries/formatted/data/current/VERSION" >"$version"
  if [ "$kind" = ha ]; then
    # Both begin with the same image, and without edits.
    mkdir -p "$dir/namenode2" "$dir/edits/current"
    cp -R "$dir/namenode/data" "$dir/namenode2"
    cp "$dir/namenode/data/current/"{VERSION,seen_txid} "$dir/edits/current"
  fi
}

# An empty bucket, which is a folder.
new_s3_data() {
  mkdir -p "$dir/s3/data/$BUCKET"
}

# What a page of a server says: page PORT PATH.
page() {
  local line
  {
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
    while IFS= read -r -t 2 line <&3; do
      echo "$line"
    done
    exec 3>&-
  } 2>/dev/null
}

# Its process, if it runs. The number of one that has ended may be another's by now.
running() {
  local pid
  pid=$(cat "$dir/$1/pid" 2>/dev/null) || return 1
  grep -qs -e "-Dgear.server=$dir/$1" "/proc/$pid/cmdline" || return 1
  echo "$pid"
}

# The jars of one of them. An archive of classes is good for one order only, and for no folders.
class_path() {
  local jar path= folder=$libraries/$1
  [ "$1" != kdc ] || folder=$kdc
  for jar in "$folder"/*.jar; do
    path+=$jar:
  done
  echo "${path%:}"
}

# The JVM's options for a server that runs the classes of an archive.
set_options() {
  local name=$1 archive=$libraries/$2.jsa
  options=("-Dgear.server=$dir/$name" "-Dgear.log=$dir/$name/log" "-Xmx${HEAP}m"
    -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError
    -Djava.net.preferIPv4Stack=true "-Dlog4j.configuration=file:$services/servers/log4j.properties"
    # What one that is killed has unpacked goes with the instance.
    "-Djava.io.tmpdir=$dir/$name/tmp")
  if [ "$archives" = make ]; then
    # It names every class that cannot be archived.
    options+=("-XX:ArchiveClassesAtExit=$archive.new" -Xlog:cds=off -Xlog:cds+dynamic=off)
  elif [ -e "$archive" ]; then
    options+=("-XX:SharedArchiveFile=$archive")
  fi
  [[ $kind != kerberos* ]] || options+=("-Djava.security.krb5.conf=$dir/hadoop/krb5.conf")
  # shellcheck disable=SC2206
  options+=(${GEAR_SERVICES_JVM:-})
}

# Becomes a program with the class path of one of them: java_main kafka|hdfs|s3|kdc ARGUMENTS...
java_main() {
  local path
  path=$(class_path "$1")
  CLASSPATH=$path HADOOP_USER_NAME=${HADOOP_USER_NAME:-test} exec "$java" "${@:2}"
}

# The JVM's options for a program of the command line.
client=(-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true
  "-Dlog4j.configuration=file:$services/servers/log4j-client.properties")

# Becomes the program that sets what the broker keeps of a user or a client:
# configure_kafka users|clients NAME SETTING=VALUE.
configure_kafka() {
  set_folder ''
  read_ports
  set_libraries
  java_main kafka "${client[@]}" kafka.admin.ConfigCommand \
    --bootstrap-server "127.0.0.1:$KAFKA" --alter --entity-type "$1" --entity-name "$2" \
    --add-config "$3"
}

# Starts a server in the background; it outlives the script, and Ctrl-C.
launch() {
  local name=$1 home=$dir/$1 hdfs=org.apache.hadoop.hdfs.server command upper
  rm -rf "$home/tmp"
  mkdir -p "$home/tmp"
  [ ! -e "$home/log" ] || mv "$home/log" "$home/log.before"
  case $name in
    kafka)
      set_options kafka kafka
      # Kafka brings a second library for logs, which is not used and says so.
      options+=(-Dlog4j2.statusLoggerLevel=OFF)
      command=(kafka "${options[@]}" kafka.Kafka "$dir/server.properties")
      ;;
    s3)
      set_options s3 s3
      command=(s3 "${options[@]}" org.gaul.s3proxy.Main --properties "$dir/s3.properties")
      ;;
    kdc)
      set_options kdc kdc
      # Clients take the first of the keytab for themselves.
      command=(kdc "${options[@]}" org.apache.hadoop.minikdc.MiniKdc "$home" "$dir/kdc.properties"
        "$home/keytab" "$PRINCIPAL" hdfs/localhost HTTP/localhost)
      ;;
    namenode*)
      set_options "$name" namenode
      command=(hdfs "${options[@]}" "$hdfs.namenode.NameNode" -conf "$dir/hadoop/core-site.xml"
        -D "dfs.namenode.name.dir=file://$home/data")
      [ "$kind" != ha ] || command+=(-D "dfs.ha.namenode.id=$name")
      ;;
    datanode*)
      set_options "$name" datanode
      upper=${name^^}
      local data_port=$upper ipc_port=${upper}_IPC http_port=${upper}_HTTP
      command=(hdfs "${options[@]}" "$hdfs.datanode.DataNode" -conf "$dir/hadoop/core-site.xml"
        -D "dfs.datanode.data.dir=file://$home/data"
        -D "dfs.datanode.address=127.0.0.1:${!data_port}"
        -D "dfs.datanode.ipc.address=127.0.0.1:${!ipc_port}"
        -D "dfs.datanode.http.address=127.0.0.1:${!http_port}")
      ;;
  esac
  (
    trap '' HUP
    java_main "${command[@]}"
  ) >"$home/out" 2>&1 </dev/null &
  started=$!
  # The shell would report it when it is killed.
  disown
  echo "$started" >"$home/pid"
  # Whoever stops the others meanwhile has not seen this one.
  if [ -e "$dir/stopped" ]; then
    kill -9 "$started"
    fail "$dir: the servers have been stopped"
  fi
}

# The NameNode that serves, if one does.
active() {
  local name port
  if [ "$kind" != ha ]; then
    ! running namenode >/dev/null || echo namenode
    return 0
  fi
  for name in "${NAMES[@]}"; do
    port=${name^^}_HTTP
    if [[ $name == namenode* ]] && running "$name" >/dev/null &&
      [[ $(page "${!port}" '/jmx?qry=Hadoop:service=NameNode,name=NameNodeStatus') == \
        *'"State" : "active"'* ]]; then
      echo "$name"
      return
    fi
  done
}

# Becomes Hadoop's program that makes NameNodes active and standby: haadmin ARGUMENTS...
haadmin() {
  # One that is dead need not be asked a hundred times.
  java_main hdfs "${client[@]}" -cp "$dir/hadoop:$(class_path hdfs)" \
    org.apache.hadoop.hdfs.tools.DFSHAAdmin -D ipc.client.connect.max.retries=0 "$@"
}

# Makes a NameNode the active one, or none: activate NAME|none.
activate() {
  local now
  now=$(active)
  [ "$now" != "$1" ] || return 0
  [ -z "$now" ] || (haadmin -transitionToStandby "$now") || return 1
  # The other one may be dead; nothing else makes one active.
  [ "$1" = none ] || (haadmin -transitionToActive --forceactive "$1")
}

# True if the server answers. Its log is looked at first: that costs it nothing.
serves() {
  local log=$dir/$1/log http_port=${1^^}_HTTP
  case $1 in
    kafka) grep -qs 'Kafka Server started' "$log" && listens "$KAFKA" ;;
    s3) grep -qs 'Started ogsoejs.Server@' "$log" && listens "$S3" ;;
    # It has written the keytab then.
    kdc) grep -qs 'Standalone MiniKdc Running' "$dir/kdc/out" && listens "$KDC" ;;
    namenode*)
      local port=${1^^}
      grep -qs 'RPC up at' "$log" && listens "${!port}"
      ;;
    datanode*)
      # Without a NameNode it has nobody to serve for.
      if [ -z "$(active)" ]; then
        grep -qs 'Starting DataNode with maxLockedMemory' "$log"
        return
      fi
      grep -qs 'successfully registered with NN' "$log" || return 1
      # It knows this from the answer to its first heartbeat, after which it is given blocks.
      [[ $(page "${!http_port}" '/jmx?qry=Hadoop:service=DataNode,name=DataNodeInfo') == \
        *'\"NamenodeHaState\":\"active\"'* ]]
      ;;
  esac
}

# Waits until a server that has been launched serves; if it does not, `problem` says why:
# await NAME PID.
await() {
  local name=$1 pid=$2 end=$((SECONDS + START_SECONDS))
  until serves "$name"; do
    if ! kill -0 "$pid" 2>/dev/null; then
      problem="$name has ended: $(last_lines "$name")"
      return 1
    fi
    if ((SECONDS >= end)); then
      problem="$name does not serve after $START_SECONDS s: $(last_lines "$name")"
      return 1
    fi
    sleep 0.1
  done
}

# The end of what a server has said.
last_lines() {
  local file
  for file in "$dir/$1/out" "$dir/$1/log"; do
    if [ -s "$file" ]; then
      printf '\n--- the end of %s\n' "$file"
      tail -n "$LOG_LINES" "$file"
    fi
  done
}

# True if a process has let go of all that it had. While it ends, its command line is gone before
# its sockets are closed, and its first thread has ended before the others; and whether anybody
# ever asks for its exit code is not up to us.
ended() {
  local status
  status=$(cat "/proc/$1/status" 2>/dev/null) || return 0
  [[ $status =~ State:[[:space:]]*[ZX] && $status =~ Threads:[[:space:]]*[01][[:space:]] ]]
}

# Ends servers with a signal and waits until they have ended: stop SIGNAL NAME...
stop() {
  local signal=$1 name pid pids=() end=$((SECONDS + STOP_SECONDS))
  shift
  for name in "$@"; do
    if pid=$(running "$name"); then
      kill "-$signal" "$pid" 2>/dev/null || true
      pids+=("$pid")
    fi
  done
  for pid in ${pids[@]+"${pids[@]}"}; do
    until ended "$pid"; do
      ((SECONDS < end)) || kill -9 "$pid" 2>/dev/null || true
      sleep 0.02
    done
  done
}
