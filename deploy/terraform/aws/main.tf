locals {
  hosts = {
    a = { name = "${var.name}-a", zone_id = var.zone_ids[0], cidr = var.subnet_cidrs[0], domid_range = "1-8191" }
    b = { name = "${var.name}-b", zone_id = var.zone_ids[1], cidr = var.subnet_cidrs[1], domid_range = "8192-16383" }
  }
  peer = { a = "b", b = "a" }

  # Fixed, so that each host's user-data can name the other.
  address = { for side, host in local.hosts : side => cidrhost(host.cidr, 10) }

  nested = contains(var.nested_virtualization_families, split(".", var.instance_type)[0])

  routes = {
    for pair in setproduct(var.route_table_ids, keys(var.guest_addresses)) :
    "${pair[0]}/${pair[1]}" => { table = pair[0], guest = pair[1] }
  }

  cloud_init = "${path.module}/../../cloud-init"
  user_data = {
    for side, host in local.hosts : side => templatefile("${local.cloud_init}/host.yaml.tftpl", {
      name                 = host.name
      zone                 = host.zone_id
      peer_address         = local.address[local.peer[side]]
      takeover             = var.takeover
      bridge_address       = var.bridge_address
      bridge_mac           = "02:75:73:00:00:01"
      guest_routes_b64     = base64encode(join("", [for address in values(var.guest_addresses) : "[Route]\nDestination=${address}/32\nScope=link\n\n"]))
      domid_range          = host.domid_range
      dom0_memory_mib      = var.dom0_memory_mib
      packages_b64         = base64encode(join("", [for p in var.packages : "${p.sha256} ${p.url}\n"]))
      boot_xen_b64         = filebase64("${local.cloud_init}/boot-xen")
      boot_xen_service_b64 = filebase64("${local.cloud_init}/boot-xen.service")
      install_b64          = filebase64("${local.cloud_init}/install")
    })
  }
}

data "aws_region" "here" {}

data "aws_partition" "here" {}

data "aws_caller_identity" "here" {}

data "aws_ami" "debian" {
  count       = var.ami_id == null ? 1 : 0
  most_recent = true
  owners      = ["136693071363"] # Debian's account

  filter {
    name   = "name"
    values = ["debian-12-amd64-*"]
  }

  filter {
    name   = "architecture"
    values = ["x86_64"]
  }
}

# A warning, not an error: Xen runs there, but today's Understudy protects PVH guests only.
check "guests_can_be_protected" {
  assert {
    condition     = local.nested
    error_message = "${var.instance_type} has no nested virtualization: Xen runs PV guests only there, and Understudy protects PVH guests only."
  }
}

# Network

resource "aws_subnet" "host" {
  for_each = local.hosts

  vpc_id               = var.vpc_id
  availability_zone_id = each.value.zone_id
  cidr_block           = each.value.cidr
  tags                 = merge(var.tags, { Name = each.value.name })
}

resource "aws_route_table_association" "host" {
  for_each = local.hosts

  subnet_id      = aws_subnet.host[each.key].id
  route_table_id = var.subnet_route_table_id
}

resource "aws_security_group" "host" {
  name        = "${var.name}-understudy"
  description = "Hosts of the Understudy pair ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = var.name })
}

# Sessions between the daemons and epoch streams: between the two hosts and from nowhere else.
resource "aws_vpc_security_group_ingress_rule" "replication" {
  security_group_id            = aws_security_group.host.id
  description                  = "Understudy, between the hosts"
  referenced_security_group_id = aws_security_group.host.id
  ip_protocol                  = "tcp"
  from_port                    = 7788
  to_port                      = 7789
  tags                         = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  for_each = toset(var.ssh_cidrs)

  security_group_id = aws_security_group.host.id
  description       = "SSH to the hosts"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  tags              = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "guest" {
  for_each = { for rule in var.guest_ingress : "${rule.protocol}-${rule.from_port}-${rule.to_port}-${rule.cidr}" => rule }

  security_group_id = aws_security_group.host.id
  description       = "To the guests"
  cidr_ipv4         = each.value.cidr
  ip_protocol       = each.value.protocol
  from_port         = each.value.from_port
  to_port           = each.value.to_port
  tags              = var.tags
}

# The guests' own traffic leaves here, too.
resource "aws_vpc_security_group_egress_rule" "all" {
  security_group_id = aws_security_group.host.id
  description       = "Packages, time, and what guests send"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
  tags              = var.tags
}

resource "aws_network_interface" "host" {
  for_each = local.hosts

  subnet_id         = aws_subnet.host[each.key].id
  private_ips       = [local.address[each.key]]
  security_groups   = [aws_security_group.host.id]
  source_dest_check = false # it carries the guests' packets
  tags              = merge(var.tags, { Name = each.value.name })
}

# The address that moves: it begins at host a; a failover replaces the route, which is then not Terraform's to put back.
resource "aws_route" "guest" {
  for_each = local.routes

  route_table_id         = each.value.table
  destination_cidr_block = "${var.guest_addresses[each.value.guest]}/32"
  network_interface_id   = aws_network_interface.host["a"].id

  lifecycle {
    ignore_changes = [network_interface_id]
  }
}

# Privileges

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "host" {
  statement {
    sid     = "MoveGuestAddresses"
    actions = ["ec2:ReplaceRoute"]
    resources = [
      for id in var.route_table_ids :
      "arn:${data.aws_partition.here.partition}:ec2:${data.aws_region.here.region}:${data.aws_caller_identity.here.account_id}:route-table/${id}"
    ]
  }

  statement {
    sid       = "SeeWhereTheyAre"
    actions   = ["ec2:DescribeRouteTables"]
    resources = ["*"] # this action knows no resources
  }
}

resource "aws_iam_role" "host" {
  name_prefix        = "${var.name}-"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "host" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.host.id
  policy      = data.aws_iam_policy_document.host.json
}

resource "aws_iam_instance_profile" "host" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.host.name
  tags        = var.tags
}

# Hosts

resource "aws_launch_template" "host" {
  for_each = local.hosts

  name                   = each.value.name
  image_id               = var.ami_id == null ? data.aws_ami.debian[0].id : var.ami_id
  instance_type          = var.instance_type
  key_name               = var.key_name
  user_data              = base64gzip(local.user_data[each.key])
  update_default_version = true
  tags                   = var.tags

  dynamic "cpu_options" {
    for_each = local.nested ? [1] : []

    content {
      nested_virtualization = "enabled"
    }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1 # the hosts, not their guests
  }

  iam_instance_profile {
    arn = aws_iam_instance_profile.host.arn
  }

  network_interfaces {
    device_index         = 0
    network_interface_id = aws_network_interface.host[each.key].id
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size           = var.root_volume_gib
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }

  tag_specifications {
    resource_type = "instance"
    tags          = merge(var.tags, { Name = each.value.name })
  }

  tag_specifications {
    resource_type = "volume"
    tags          = merge(var.tags, { Name = each.value.name })
  }
}

resource "aws_instance" "host" {
  for_each = local.hosts

  launch_template {
    id      = aws_launch_template.host[each.key].id
    version = aws_launch_template.host[each.key].latest_version
  }

  tags       = merge(var.tags, { Name = each.value.name })
  depends_on = [aws_iam_role_policy.host, aws_route_table_association.host]

  # A change of the template must never replace both hosts of a pair at once: see README.md.
  lifecycle {
    ignore_changes = [launch_template]
  }
}

resource "aws_cloudwatch_metric_alarm" "unreachable" {
  for_each = var.reboot_when_unreachable ? local.hosts : {}

  alarm_name          = "${each.value.name}-unreachable"
  alarm_description   = "Its instance status check fails: reboots it. After a failed boot of Xen it comes back with its plain kernel."
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed_Instance"
  statistic           = "Minimum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 10
  dimensions          = { InstanceId = aws_instance.host[each.key].id }
  alarm_actions       = ["arn:${data.aws_partition.here.partition}:automate:${data.aws_region.here.region}:ec2:reboot"]
  tags                = var.tags
}
